"""`carfs dagstore complete`: all data of a remote shard, here."""

from __future__ import annotations

import click

from agent.cli.calls import amount, call, call_that_lasts, shown
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.dagstore.given import key_argument
from agent.cli.output import emit_json


@command(epilog=example("carfs dagstore complete piece", "carfs dagstore complete --no-wait piece"))
@key_argument
@click.option("--no-wait", is_flag=True, help="Return at once; `carfs status` shows how far it is.")
@quiet_option
@json_option
def complete(key: str, no_wait: bool, quiet: bool, as_json: bool) -> None:
    """Fetch all data of the remote shard KEY that is not here yet, so that reading it asks nobody any more.

    What readers ask for goes first. Ctrl-C stops it; what has come stays, until there is no room for it.
    """
    params = {"Key": key, "Wait": not no_wait}
    if no_wait:
        call("Carfs.CompleteShard", params)
    else:
        call_that_lasts(
            "Carfs.CompleteShard",
            params,
            f"fetching {shown(key)}",
            lambda status: amount(status["Fetching"], key),
            quiet=quiet,
        )
    if as_json:
        emit_json({"Key": key, "Complete": not no_wait})
    else:
        print(f"{'Fetching' if no_wait else 'Fetched'} shard {shown(key)}")
