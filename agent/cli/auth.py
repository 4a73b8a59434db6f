"""`carfs auth …`: tokens for clients over TCP, as `lotus auth` has them."""

from __future__ import annotations

import base64

import click

from agent.cli.calls import call
from agent.cli.command import CommandTable, command, example, group, json_option
from agent.cli.exits import CommandFailed, Exit
from agent.cli.output import emit_json

LEVELS = ("read", "write", "sign", "admin")

COMMANDS: CommandTable = {
    "create-token": ("agent.cli.auth:create_token", "Print a token that allows what you say."),
    "api-info": ("agent.cli.auth:api_info", "Print what Lotus' clients take to find and call the agent."),
    "verify": ("agent.cli.auth:verify", "Print what a token allows."),
    "revoke-all": ("agent.cli.auth:revoke_all", "End all tokens."),
}

_perm_option = click.option(
    "--perm",
    type=click.Choice(LEVELS),
    required=True,
    help="What the token allows; each includes those before it.",
)


@group(COMMANDS, epilog=example("carfs auth create-token --perm read"))
def auth() -> None:
    """Make and end tokens for clients over TCP ([rpc] listen in config.toml). They do not expire."""


@command(epilog=example("carfs auth create-token --perm write"))
@_perm_option
def create_token(perm: str) -> None:
    """Print a new token."""
    print(_new_token(perm))


@command(epilog=example("carfs auth api-info --perm admin", "export $(carfs auth api-info --perm read)"))
@_perm_option
def api_info(perm: str) -> None:
    """Print a new token and the agent's address, as the variable that lotus-miner and its like read."""
    addresses = call("Carfs.Addresses")["Listen"]
    if not addresses:
        hint = 'set rpc.listen in config.toml, for instance to ["127.0.0.1:3453"], and start it again'
        raise CommandFailed(f"the agent listens on no TCP address; {hint}", Exit.REFUSED)
    host, _, port = addresses[0].rpartition(":")
    family = "ip6" if host.startswith("[") else "ip4"
    print(f"MINER_API_INFO={_new_token(perm)}:/{family}/{host.strip('[]')}/tcp/{port}/http")


@command(epilog=example("carfs auth verify TOKEN"))
@click.argument("token")
@json_option
def verify(token: str, as_json: bool) -> None:
    """Print what TOKEN allows."""
    levels = call("Filecoin.AuthVerify", [token])
    if as_json:
        emit_json(levels)
    else:
        print(" ".join(levels))


@command(epilog=example("carfs auth revoke-all"))
def revoke_all() -> None:
    """End all tokens that there are, and the connections of clients that came with one."""
    call("Carfs.AuthRevokeAll")


def _new_token(perm: str) -> str:
    """Lotus lists all levels up to the highest; bytes come from Go, and from us, in base64."""
    return base64.b64decode(call("Filecoin.AuthNew", [list(LEVELS[: LEVELS.index(perm) + 1])])).decode()
