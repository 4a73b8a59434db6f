"""`carfs car diff`: what differs between two CARs."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from agent.cli.car.given import STDIN, car_path
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.exits import CommandFailed, Exit
from agent.cli.output import emit_json_line, printable, size_text
from agent.cli.progress import Step, progress_beside_output
from carlib import comparison
from carlib.blockstore import ReadOnlyBlockstore
from carlib.comparison import BlockChange, PathChange, RootChange
from carlib.names import shown

Change = RootChange | BlockChange | PathChange
ASPECTS = ("roots", "blocks", "paths")


@command(
    epilog=example(
        "carfs car diff monday.car tuesday.car", "carfs car diff --only paths monday.car tuesday.car"
    )
)
@click.argument("left", metavar="A")
@click.argument("right", metavar="B")
@click.option("--only", "aspects", type=click.Choice(ASPECTS), multiple=True,
              help="Compare only these; repeat it for several.")  # fmt: skip
@json_option
@quiet_option
def diff(left: str, right: str, aspects: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """Show what only A (-) and only B (+) have, of roots, blocks and UnixFS paths, and paths that differ (~).

    Paths are compared where each CAR has one root; what one side has alone is one line. With --json, one object a
    line. One of the CARs may be - for standard input. The exit code is 0 where nothing differs, 1 where something does,
    5 where a directory could not be read.
    """
    if left == right == STDIN:
        raise click.UsageError("A and B cannot both be standard input")
    code = Exit.DONE
    with (
        car_path(left) as one,
        car_path(right) as other,
        ReadOnlyBlockstore.open(one) as these,
        ReadOnlyBlockstore.open(other) as those,
        progress_beside_output("comparing", quiet=quiet) as step,
    ):
        for aspect in aspects or ASPECTS:
            for change in _changes(aspect, these, those, step, asked=bool(aspects)):
                problem = change.problem if isinstance(change, PathChange) else None
                code = max(code, Exit.FAILED if problem is None else Exit.CORRUPT)
                (_emit if as_json else _print)(change)
    return code


def _changes(
    aspect: str, left: ReadOnlyBlockstore, right: ReadOnlyBlockstore, step: Step, *, asked: bool
) -> Iterator[Change]:
    if aspect == "roots":
        yield from comparison.roots(left, right)
    elif aspect == "blocks":
        yield from comparison.blocks(left, right, step)
    elif len(left.roots) == len(right.roots) == 1:
        yield from comparison.paths(left, left.roots[0], right, right.roots[0])
    elif asked:
        raise CommandFailed(
            f"paths can be compared below one root each; there are {len(left.roots)} and {len(right.roots)}",
            Exit.USAGE,
        )


def _print(change: Change) -> None:
    match change:
        case RootChange():
            print(f"{change.side.value} root  {change.cid}")
        case BlockChange():
            print(f"{change.side.value} block {change.cid} {size_text(change.size)}")
        case PathChange():
            print(f"{change.side.value} path  {_path(change)}")
            if change.problem is not None:
                print(f"carfs: {_path(change)}: {change.problem}", file=sys.stderr)


def _emit(change: Change) -> None:
    match change:
        case RootChange():
            emit_json_line({"side": change.side.name.lower(), "root": str(change.cid)})
        case BlockChange():
            emit_json_line({"side": change.side.name.lower(), "block": str(change.cid), "size": change.size})
        case PathChange():
            found = {"side": change.side.name.lower(), "path": _path(change),
                     "left": change.left and str(change.left), "right": change.right and str(change.right)}  # fmt: skip
            emit_json_line(found | ({} if change.problem is None else {"problem": str(change.problem)}))


def _path(change: PathChange) -> str:
    return printable(b"/".join(map(shown, change.path))) or "."
