"""`carfs dagstore verify`: whether shards hold what they should."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import click

from agent.cli.calls import shown, stream
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.dagstore.given import text_key
from agent.cli.exits import EXIT_BY_RPC_CLASS, Exit
from agent.cli.output import Styled, color_option, counted, emit_json_line, size_text
from agent.cli.progress import progress

Json = Any  # any value that JSON can carry

DEPTHS = ("structure", "index", "full")
OUTCOME_EXITS = {"good": Exit.DONE, "repaired": Exit.DONE, "damaged": Exit.CORRUPT, "broken": Exit.CORRUPT}


def _keys(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        text_key(ctx, param, value)
    return values


@command(
    epilog=example(
        "carfs dagstore verify photos",
        "carfs dagstore verify --depth index --sample 1000 piece-1 piece-2",
        "carfs dagstore verify photos --json | jq -c 'select(.Event == \"bad\")'",
    )
)
@click.argument("keys", nargs=-1, required=True, metavar="KEY...", callback=_keys)
@click.option("--depth", type=click.Choice(DEPTHS), default="full", show_default=True,
              help="How much to look at; see above.")  # fmt: skip
@click.option("--sample", metavar="N", type=click.IntRange(1),
              help="With --depth index: look at N entries, chosen by chance, instead of all.")  # fmt: skip
@color_option
@quiet_option
@json_option
def verify(
    keys: tuple[str, ...], depth: str, sample: int | None, color: bool, quiet: bool, as_json: bool
) -> int:
    """Check shards to a depth, each of which takes in those before it; what is damaged is put in quarantine.

    \b
    structure  the container and all sections; no data is read
    index      the index against the sections, both ways
    full       the hash of every block, and every link

    Ctrl-C stops it; it goes on from there the next time. The exit code is 5 if a shard is damaged, else that of the
    worst error if one could not be looked at to the end.
    """
    worst = Exit.DONE
    params = {"Keys": list(keys), "Depth": depth, "Sample": sample or 0}
    for key, events in groupby(stream("Carfs.VerifyShards", params), lambda event: event["Key"]):
        with progress(f"verifying {shown(key)}", quiet=quiet or as_json) as step:
            for event in events:
                if as_json:
                    emit_json_line(event)
                elif event["Event"] == "progress":
                    step(event.get("Done", 0), event.get("Total", 0))
                else:
                    print(f"{shown(key)} {_told(event, color)}", flush=True)
                worst = max(worst, _exit(event))
    return worst


def _told(event: Json, color: bool) -> str:
    """What has been found, in a line."""
    match event:
        case {"Event": "bad" | "repaired" as what, "Block": block}:
            word = Styled(what.upper(), "red" if what == "bad" else "green").text_in(color)
            cid = block["CID"] or "no CID"
            why = (
                shown(block["Problem"].removesuffix(f" {cid}"))
                if what == "bad"
                else f"from {shown(block['RepairedFrom'])}"
            )
            return f"{word} offset {block['Offset']}, {cid}: {why}"
        case {"Event": "verdict", "Verdict": verdict}:
            good = verdict["Outcome"] in ("good", "repaired")
            word = Styled(verdict["Outcome"].upper(), "green" if good else "red").text_in(color)
            bad = f", {verdict['Bad']} bad" if verdict["Bad"] else ""
            detail = f": {shown(verdict['Detail'])}" if verdict["Detail"] else ""
            return f"{word} {counted(verdict['Blocks'], 'block')}, {size_text(verdict['Bytes'])}{bad}{detail}"
    return f"{Styled('ERROR', 'red').text_in(color)} {shown(event.get('Error', ''))}"


def _exit(event: Json) -> Exit:
    match event:
        case {"Event": "verdict", "Verdict": verdict}:
            return OUTCOME_EXITS.get(verdict["Outcome"], Exit.FAILED)
        case {"Event": "error"}:
            return EXIT_BY_RPC_CLASS.get(event.get("ErrorClass", ""), Exit.FAILED)
    return Exit.DONE
