"""`carfs dagstore history` and `watch`: what happened to shards, and what happens."""

from __future__ import annotations

from typing import Any

import click

from agent.cli.calls import call, shown, stream
from agent.cli.command import command, example, json_option
from agent.cli.dagstore.given import key_argument
from agent.cli.output import emit_json, emit_json_line, emit_table

Json = Any  # any value that JSON can carry


@command(
    epilog=example("carfs dagstore history photos", "carfs dagstore history photos --limit 100 --before 17")
)
@key_argument
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, metavar="N",
              help="At most N lines.")  # fmt: skip
@click.option("--before", type=click.IntRange(1), metavar="NUMBER", help="Only what came before this number.")
@json_option
def history(key: str, limit: int, before: int | None, as_json: bool) -> None:
    """Show what happened to the shard KEY, the newest first: when, from which state to which, what made it, by whom
    and why."""
    lines = call("Carfs.ShardHistory", {"Key": key, "Limit": limit, "Before": before or 0})
    if as_json:
        emit_json(lines)
        return
    rows = [
        (one["Number"], one["At"], _change(one), one["Event"], shown(one["By"]), shown(one["Reason"]))
        for one in lines
    ]
    if rows:
        emit_table(("Number", "At", "State", "Event", "By", "Reason"), rows)


@command(
    epilog=example("carfs dagstore watch", "carfs dagstore watch --failures --recent --json | jq -r .Key")
)
@click.option("--failures", is_flag=True, help="Only what makes shards errored.")
@click.option("--recent", is_flag=True, help="Begin with what is remembered from before.")
@json_option
def watch(failures: bool, recent: bool, as_json: bool) -> None:
    """Show what happens to shards as it happens, until Ctrl-C; who reads too slowly loses the oldest."""
    for one in stream("Carfs.WatchShards", {"FailuresOnly": failures, "Recent": recent}):
        if as_json:
            emit_json_line(one)
        else:
            reason = f": {shown(one['Reason'])}" if one["Reason"] else ""
            print(
                f"{one['At']} {shown(one['Key'])} {_change(one)} ({one['Op']}, {shown(one['By'])}){reason}",
                flush=True,
            )


def _change(line: Json) -> str:
    before, after = (line[name].removeprefix("ShardState") for name in ("Before", "After"))
    return after if before in ("", after) else f"{before} -> {after}"
