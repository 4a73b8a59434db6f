"""`carfs client verify`: whether imports are as they were made."""

from __future__ import annotations

from collections.abc import Iterator

import click

from agent.cli.calls import call, shown, stream
from agent.cli.client.given import Json, find_import, text
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.exits import AgentRefused, CommandFailed, Exit
from agent.cli.output import Styled, color_option, counted, emit_json_line, size_text
from agent.cli.progress import progress

SHOWN = 20


@command(
    epilog=example(
        "carfs client verify",
        "carfs client verify --deep photos",
        "carfs client verify --json | jq -r 'select(.Good | not) | .StaleFiles[]'",
    )
)
@click.argument("imports", metavar="[IMPORT]...", nargs=-1, callback=text)
@click.option("--deep", is_flag=True, help="Read and hash everything, not only what seems changed.")
@color_option
@quiet_option
@json_option
def verify(imports: tuple[str, ...], deep: bool, color: bool, quiet: bool, as_json: bool) -> int:
    """Check imports (all, if none is named): their CARs, and whether the files that they refer to are as they were.

    Files that look changed are read, and the blocks named that are no longer there. The exit code is 5 if anything is
    not as it was. With --json, one object a line. Ctrl-C stops it.
    """
    records = [find_import(name) for name in imports] if imports else call("Carfs.Imports")
    worst = Exit.DONE
    for record in records:
        if record["State"] == "ImportStateImporting" and not imports:
            continue
        name = shown(record["Name"])
        try:
            verdict = _verdict(record["ID"], name, deep, quiet=quiet or as_json)
        except AgentRefused as error:
            if len(records) == 1:
                raise
            verdict = None
            worst = max(worst, error.code)
            print(f"{name}: {Styled('ERROR', 'red').text_in(color)} {error}", flush=True)
        if verdict is not None:
            worst = max(worst, Exit.DONE if verdict["Good"] else Exit.CORRUPT)
            if as_json:
                emit_json_line(verdict)
            else:
                _print(name, verdict, color)
    return worst


def _verdict(number: int, name: str, deep: bool, *, quiet: bool) -> Json:
    with progress(f"verifying {name}", quiet=quiet) as step:
        for one in stream("Carfs.VerifyImport", {"Import": number, "Deep": deep}):
            if one["Event"] == "verdict":
                return one["Verdict"]
            step(one.get("Done", 0), one.get("Total", 0))
    raise CommandFailed(f"verifying {name} ended without a verdict")


def _print(name: str, verdict: Json, color: bool) -> None:
    read = f", {size_text(verdict['ReadBytes'])} read" if verdict["ReadBytes"] else ""
    touched = f", {counted(verdict['Touched'], 'file')} touched and not changed" if verdict["Touched"] else ""
    if verdict["Good"]:
        print(f"{name}: {Styled('GOOD', 'green').text_in(color)}{touched}{read}", flush=True)
        return
    if verdict["Broken"]:
        print(f"{name}: {Styled('BROKEN', 'red').text_in(color)} {shown(verdict['Broken'])}")
        print(
            f"    import it anew: carfs client drop {verdict['Record']['ID']}, then carfs client import",
            flush=True,
        )
        return
    files = counted(verdict["StaleCount"], "file")
    blocks = counted(verdict["ChangedBlocks"], "block")
    print(f"{name}: {Styled('STALE', 'yellow').text_in(color)} {files} changed, {blocks} lost{touched}{read}")
    for path in verdict["StaleFiles"][:SHOWN]:
        print(f"    {shown(path)}")
    runs = list(_runs(verdict["Blocks"]))
    for line in runs[:SHOWN]:
        print(f"    {line}")
    if len(runs) > SHOWN or verdict["ChangedBlocks"] > len(verdict["Blocks"]):
        print("    …")
    print("    repair finds what has moved, relink says where the source is now; import it anew for what is new",
          flush=True)  # fmt: skip


def _runs(blocks: Json) -> Iterator[str]:
    """What is lost of which file, block after block together."""
    for start, run in _joined(blocks):
        first, last = run[0], run[-1]
        where = f"{shown(first['Path'])}: bytes {start} to {last['Offset'] + last['Size']}"
        yield f"{where} are no longer {first['Cid']}" if len(run) == 1 else f"{where}, {len(run)} blocks"


def _joined(blocks: Json) -> Iterator[tuple[int, list[Json]]]:
    run: list[Json] = []
    for block in blocks:
        if run and (block["Path"], block["Offset"]) != (run[-1]["Path"], run[-1]["Offset"] + run[-1]["Size"]):
            yield run[0]["Offset"], run
            run = []
        run.append(block)
    if run:
        yield run[0]["Offset"], run
