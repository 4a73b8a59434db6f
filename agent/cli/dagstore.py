"""`carfs dagstore …`: shards by hand, with Lotus' names and words."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.calls import call, call_that_indexes, shown
from agent.cli.command import CommandTable, command, example, group, json_option, quiet_option
from agent.cli.exits import CommandFailed, Exit
from agent.cli.output import emit_json, emit_table


def _text_key(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("a shard key must be Unicode text") from None
    return value


_key_argument = click.argument("key", callback=_text_key)

COMMANDS: CommandTable = {
    "register-shard": ("agent.cli.dagstore:register_shard", "Take a CAR in as a shard, and index it."),
    "list-shards": ("agent.cli.dagstore:list_shards", "List all shards and their states."),
    "initialize-shard": ("agent.cli.dagstore:initialize_shard", "Index a shard that was registered lazily."),
    "recover-shard": ("agent.cli.dagstore:recover_shard", "Try a shard again that is errored."),
    "destroy-shard": ("agent.cli.dagstore:destroy_shard", "Forget a shard; its data stays."),
}


@group(
    COMMANDS, epilog=example("carfs dagstore register-shard photos photos.car", "carfs dagstore list-shards")
)
def dagstore() -> None:
    """Register, list, index, recover and destroy shards of the running agent."""


@command(
    epilog=example(
        "carfs dagstore register-shard photos ~/photos.car",
        "carfs dagstore register-shard --lazy piece file:///srv/pieces/a%20b.car",
    )
)
@_key_argument
@click.argument("url")
@click.option("--lazy", is_flag=True, help="Index it when it is first used, not now.")
@click.option("--no-wait", is_flag=True, help="Return when it is registered, not when it is indexed.")
@quiet_option
@json_option
def register_shard(key: str, url: str, lazy: bool, no_wait: bool, quiet: bool, as_json: bool) -> None:
    """Take the CAR at URL (a URL or a path) in as the shard KEY, and index it.

    The shard stays registered if indexing fails; see list-shards and recover-shard.
    """
    wait = not (lazy or no_wait)
    params = {"Key": key, "URL": _absolute_url(url), "Lazy": lazy, "Wait": wait}
    if wait:
        record = call_that_indexes("Carfs.RegisterShard", params, key, quiet=quiet)
    else:
        record = call("Carfs.RegisterShard", params)
    if as_json:
        emit_json(record)
    else:
        print(f"Registered shard {shown(key)}")


def _absolute_url(url_or_path: str) -> str:
    """A path is taken from here, not from wherever the agent runs."""
    from agent.dagstore import mounts
    from agent.dagstore.failures import ShardError

    try:
        return mounts.resolve(url_or_path, directory=Path.cwd()).url
    except ShardError as error:
        raise CommandFailed(str(error), Exit.USAGE) from error


@command(epilog=example("carfs dagstore list-shards", "carfs dagstore list-shards --json | jq '.[].Roots'"))
@json_option
def list_shards(as_json: bool) -> None:
    """List all shards by key; with --json, all that is known of each."""
    if as_json:
        emit_json(call("Carfs.ListShards"))
        return
    shards = call("Filecoin.DagstoreListShards")
    rows = [
        (shown(one["Key"]), one["State"].removeprefix("ShardState"), shown(one["Error"])) for one in shards
    ]
    if rows:
        emit_table(("Key", "State", "Error"), rows)


@command(epilog=example("carfs dagstore initialize-shard photos"))
@_key_argument
@quiet_option
def initialize_shard(key: str, quiet: bool) -> None:
    """Index the shard KEY, which was registered lazily and not used yet; returns when it is available."""
    call_that_indexes("Filecoin.DagstoreInitializeShard", [key], key, quiet=quiet)


@command(epilog=example("carfs dagstore recover-shard photos"))
@_key_argument
@quiet_option
def recover_shard(key: str, quiet: bool) -> None:
    """Index the errored shard KEY again; returns when it is available."""
    call_that_indexes("Filecoin.DagstoreRecoverShard", [key], key, quiet=quiet)


@command(epilog=example("carfs dagstore destroy-shard photos"))
@_key_argument
def destroy_shard(key: str) -> None:
    """Forget the shard KEY and remove its index; the CAR stays. Refused while a mount uses the shard."""
    call("Carfs.DestroyShard", {"Key": key})
    print(f"Destroyed shard {shown(key)}")
