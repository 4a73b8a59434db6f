"""`carfs dagstore reindex`: the inverted index, made anew or compared with what it is made from."""

from __future__ import annotations

from typing import Any

import click

from agent.cli.calls import Amount, call, call_that_lasts, shown
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.exits import Exit
from agent.cli.output import counted, emit_json, size_text

Json = Any  # any value that JSON can carry


@command(epilog=example("carfs dagstore reindex", "carfs dagstore reindex --verify"))
@click.option(
    "--verify", is_flag=True, help="Change nothing; say what it has other than the shards' indices."
)
@quiet_option
@json_option
def reindex(verify: bool, quiet: bool, as_json: bool) -> int:
    """Make the index anew that lookup-pieces asks, from the indices of all shards; no data is read.

    Look-ups may miss shards meanwhile. Ctrl-C stops waiting, and the agent goes on. With --verify the exit code is 5
    if something is other than it should be, which making it anew mends.
    """
    if verify:
        return _verify(as_json)
    made = call_that_lasts(
        "Carfs.RebuildInvertedIndex", None, "reindexing", _how_far, quiet=quiet, unit="shards"
    )
    if as_json:
        emit_json(made)
    else:
        blocks, shards = counted(made["Entries"], "block"), counted(made["Shards"], "shard")
        print(f"Indexed {blocks} of {shards}, {size_text(made['SizeBytes'])}")
    return Exit.DONE


def _verify(as_json: bool) -> int:
    problems = call("Carfs.CheckInvertedIndex", timeout_s=None)
    if as_json:
        emit_json(problems)
    else:
        for one in problems:
            print(shown(one["Problem"] if one["Key"] is None else f"{one['Key']}: {one['Problem']}"))
        if not problems:
            print("The index agrees with those of all shards.")
    return Exit.CORRUPT if problems else Exit.DONE


def _how_far(status: Json) -> Amount:
    found = status["InvertedIndex"]
    return found["Shards"], found["Shards"] + found["Pending"]
