"""`carfs dagstore list-shards` and `lookup-pieces`: which shards there are, and which have a block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from agent.cli.calls import call, shown
from agent.cli.command import command, example, json_option
from agent.cli.dagstore.given import STATES, filter_of, filter_options
from agent.cli.output import Styled, color_option, emit_json, emit_table, seconds, size_text

Json = Any  # any value that JSON can carry

URL_SHOWN = 100  # characters
STATE_COLORS = {"Available": "green", "Serving": "blue", "Errored": "red", "New": "yellow"}  # Lotus'


@command(
    epilog=example(
        "carfs dagstore list-shards",
        "carfs dagstore list-shards --state Errored --error-class gone --long",
        "carfs dagstore list-shards --prefix baga --limit 100 --after LAST-KEY-SEEN",
        "carfs dagstore list-shards --count",
        "carfs dagstore list-shards --json | jq '.[].Roots'",
    )
)
@click.option("--state", "states", type=click.Choice(STATES, case_sensitive=False), multiple=True,
              help="Only shards in this state; may be repeated.")  # fmt: skip
@filter_options
@click.option(
    "--after", default="", metavar="KEY", help="Only keys after this one: the last of the page before."
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N shards.")
@click.option("--count", is_flag=True, help="Print how many shards there are, by state and class of error.")
@click.option("-l", "--long", "is_long", is_flag=True, help="Show sizes, leases, times and URLs too.")
@color_option
@json_option
def list_shards(
    states: tuple[str, ...],
    prefix: str,
    glob: str,
    classes: tuple[str, ...],
    after: str,
    limit: int | None,
    count: bool,
    is_long: bool,
    color: bool,
    as_json: bool,
) -> None:
    """List shards by key; with --json, all that is known of each.

    A shard that is Available and has an error lacks only the blocks that this names; verify says which.
    """
    wanted = filter_of(prefix, glob, classes, States=list(states), After=after)
    if count:
        _emit_counts(call("Carfs.CountShards", wanted), color=color, as_json=as_json)
        return
    page = wanted | ({"Limit": limit} if limit else {})
    if as_json:
        emit_json(call("Carfs.ListShards", page, timeout_s=None))
    elif is_long:
        _emit_long(call("Carfs.ListShards", page, timeout_s=None), color=color)
    else:
        shards = call("Filecoin.DagstoreListShards", page, timeout_s=None)
        emit_shards(_with_quarantine(shards), color=color)


@command(
    epilog=example("carfs dagstore lookup-pieces bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi")
)
@click.argument("cid")
@color_option
@json_option
def lookup_pieces(cid: str, color: bool, as_json: bool) -> None:
    """List the shards that have the block of CID; nothing is printed where there is none."""
    found = call("Carfs.LookupCid", {"Cid": cid})
    if as_json:
        emit_json(found)
    else:
        emit_shards(found, color=color)


def emit_shards(shards: Sequence[Json], *, color: bool) -> None:
    """Lotus' table."""
    rows = [(shown(one["Key"]), _state(one), shown(one["Error"])) for one in shards]
    if rows:
        emit_table(("Key", "State", "Error"), rows, color=color)


def _with_quarantine(shards: Sequence[Json]) -> list[Json]:
    """Says what cannot be read of a shard that has no error: its other blocks can be."""
    found = {one["Key"]: one["Quarantined"] for one in call("Carfs.ListQuarantined")}
    return [
        one if one["Error"] else {**one, "Error": _bad_blocks(found.get(one["Key"], ""))} for one in shards
    ]


def _emit_long(records: Sequence[Json], *, color: bool) -> None:
    rows = [
        (
            shown(one["Key"]),
            _state(one),
            one["Refs"],
            "" if one["Size"] is None else size_text(one["Size"]),
            "" if one["Blocks"] is None else one["Blocks"],
            seconds(one["Registered"]),
            seconds(one["History"][-1]["At"]) if one["History"] else "",
            one["ErrorClass"],
            _shortened(shown(one["URL"])),
            shown(one["Error"] or _bad_blocks(one["Quarantined"])),
        )
        for one in records
    ]
    if rows:
        headings = ("Key", "State", "Refs", "Size", "Blocks", "Registered", "Since", "Class", "URL", "Error")
        emit_table(headings, rows, color=color)


def _emit_counts(counts: Json, *, color: bool, as_json: bool) -> None:
    if as_json:
        emit_json(counts)
        return
    rows = [(_state({"State": state}), "", number) for state, number in counts["States"].items()]
    rows += [(_state({"State": "Errored"}), name, number) for name, number in counts["ErrorClasses"].items()]
    emit_table(("State", "Class", "Shards"), [*rows, ("all", "", counts["Total"])], color=color)


def _bad_blocks(quarantined: str) -> str:
    """Without when and by which run they were found."""
    return quarantined.partition("; found ")[0]


def _shortened(url: str) -> str:
    """A URL for people; `bytes:` ones have no end."""
    return url if len(url) <= URL_SHOWN else f"{url[: URL_SHOWN - 1]}…"


def _state(shard: Json) -> Styled:
    """L126's form: without the prefix."""
    name = shard["State"].removeprefix("ShardState")
    return Styled(name, STATE_COLORS.get(name, ""))
