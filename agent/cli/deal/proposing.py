"""`carfs deal propose`."""

from __future__ import annotations

import socket
import uuid

import click

from agent.cli.calls import call as call_own
from agent.cli.calls import call_with_tasks, shown
from agent.cli.client.given import find_data, find_import
from agent.cli.client.importing import from_elsewhere
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.deal.provider import call, provider_options
from agent.cli.exits import CommandFailed, Exit
from agent.cli.output import emit_json


@command(
    epilog=example(
        "carfs deal propose --provider https://provider.example:3453 --token-file token photos",
        "carfs deal propose --provider https://provider.example:3453 --source https://gateway.example photos",
        "carfs deal propose --provider http://127.0.0.1:3453 --from ipfs bafy…",
        "carfs deal propose --provider http://127.0.0.1:3453 --offline --ends-at 2030-01-31T12:00:00Z photos",
    )
)
@click.argument("import_", metavar="IMPORT")
@provider_options
@click.option(
    "--from",
    "held",
    type=click.Choice(["ipfs", "here"]),
    default=None,
    help="Who has the data: the IPFS node beside the agent, of which IMPORT is a CID then, or the agent."
    "  [default: as ipfs.use_for_storage says]",
)
@click.option(
    "--source", metavar="URL", default="", help="Where the provider fetches it from.  [default: our gateway]"
)
@click.option(
    "--offline",
    is_flag=True,
    help="Somebody brings the CAR: `carfs client export --car`, `carfs deal import`.",
)
@click.option("--label", default="", help="What it is, for people.")
@click.option("--ends-at", metavar="TIME", default="", help="When the deal ends by itself (RFC 3339).")
@click.option("--uuid", "name", metavar="UUID", default="", help="The same again is the same deal.")
@click.option("--wait", is_flag=True, help="Come back when the deal is active.")
@quiet_option
@json_option
def propose(
    import_: str,
    provider: str | None,
    held: str | None,
    token_file: str | None,
    source: str,
    offline: bool,
    label: str,
    ends_at: str,
    name: str,
    wait: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Propose to the provider to store IMPORT: its piece is computed here, and the provider fetches the data.

    It does so from our gateway, which must listen at an address that it reaches (`gateway.listen`), or from any gateway
    that has them (--source). Everything is verified there: blocks, root and piece CID. With --from ipfs, the data are
    imported first.
    """
    if provider is None:
        raise click.UsageError("--provider is needed: the URL of its agent's RPC")
    if offline and source:
        raise click.UsageError("--offline and --source exclude each other")
    if held is None:
        held = "ipfs" if call_own("Carfs.IpfsNode")["UseForStorage"] else "here"
    if held == "ipfs":
        record = from_elsewhere(import_, "ipfs", "", quiet=quiet)
        root, known = record["Root"], record["Name"]
    else:
        root = find_data(import_).root
        known = find_import(root)["Name"]
    source = "" if offline else source or _own_source()
    piece = call_with_tasks(
        "Filecoin.ClientDealPieceCID", {"Root": root}, f"hashing {shown(import_)}", known, quiet=quiet
    )
    proposal = {
        "Root": root, "PieceCID": piece["PieceCID"]["/"], "PieceSize": piece["PieceSize"], "Source": source,
        "Label": label or known, "EndsAt": ends_at, "UUID": name or str(uuid.uuid4()),
    }  # fmt: skip
    deal = call(
        provider, token_file, "Carfs.ProposeDeal", {"Proposal": proposal, "Client": socket.gethostname()}
    )
    if not as_json:
        print(f"Deal {deal['ID']}, Piece {deal['PieceCID']}, {deal['PieceSize']} bytes", flush=True)
    while wait:
        try:
            deal = call(provider, token_file, "Carfs.WaitDeal", {"Deal": deal["ID"]})
            break
        except CommandFailed as error:
            if "timed out" not in str(error):  # it takes as long as it takes
                raise
    if as_json:
        emit_json(deal)
    elif wait:
        print(f"Deal {deal['ID']}: {deal['State'].removeprefix('StorageDeal')}")


def _own_source() -> str:
    urls = call_own("Carfs.Network")["Announced"]
    if not urls:
        raise CommandFailed(
            "nobody can fetch from here: set gateway.listen in the agent's configuration, or name a gateway that has"
            " the data (--source), or bring them yourself (--offline)",
            Exit.REFUSED,
        )
    return str(urls[0])
