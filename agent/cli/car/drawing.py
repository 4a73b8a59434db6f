"""`carfs car tree`: files and directories below the roots of a CAR, drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from agent.cli.car.given import car_argument, car_path
from agent.cli.car.tree import Found, walk
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.exits import Exit
from agent.cli.output import emit_json_line, printable, size_text
from agent.cli.progress import progress_beside_output
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.unixfs import Kind


@command(epilog=example("carfs car tree backup.car", "carfs car tree --depth 2 --cids backup.car"))
@car_argument
@click.option("--depth", type=click.IntRange(0), help="Show no more than so many levels below a root.")
@click.option("--cids", is_flag=True, help="Add the CID of each.")
@json_option
@quiet_option
def tree(car: str, depth: int | None, cids: bool, as_json: bool, quiet: bool) -> int:
    """Draw the UnixFS tree below each root of CAR, with the sizes of files, and count at the end.

    With --json, one object a line. CAR may be - for standard input. What is missing is told, and the exit code is 3.
    """
    counts = dict.fromkeys(Kind, 0)
    size_bytes, complete = 0, True
    with (
        car_path(car) as path,
        ReadOnlyBlockstore.open(path) as blocks,
        progress_beside_output(f"drawing {car}", quiet=quiet) as step,
    ):
        for root in blocks.roots:
            for found, branches in _drawn(blocks, root, depth):
                complete = complete and not found.problems
                if found.stat is not None and found.path:
                    counts[found.stat.kind] += 1
                    size_bytes += found.stat.size if found.stat.kind is Kind.FILE else 0
                    step(size_bytes, 0)
                (_emit if as_json else _print)(found, branches, root, cids)
    if not as_json:
        print(f"\n{_count(counts[Kind.DIRECTORY], 'directory', 'directories')}, "
              f"{_count(counts[Kind.FILE], 'file', 'files')}, {size_text(size_bytes)}")  # fmt: skip
    return Exit.DONE if complete else Exit.NOT_FOUND


def _drawn(blocks: ReadOnlyBlockstore, root: Cid, depth: int | None) -> Iterator[tuple[Found, str]]:
    """Each object with the lines that lead to it: whether one is the last in its folder is known by then."""
    last: list[bool] = []
    for found in walk(blocks, root, depth):
        level = len(found.path)
        del last[max(level - 1, 0) :]
        branches = "".join("    " if ends else "│   " for ends in last)
        if level:
            last.append(found.is_last)
            branches += "└── " if found.is_last else "├── "
        yield found, branches


def _print(found: Found, branches: str, root: Cid, cids: bool) -> None:
    name = printable(found.path[-1]) if found.path else str(root)
    if found.stat is None:
        name += " (missing)"
    elif found.stat.kind is Kind.SYMLINK:
        name += f" -> {printable(found.stat.target or b'')}"
    elif found.stat.kind is not Kind.DIRECTORY:
        name += f" ({size_text(found.stat.size)})"
    print(f"{branches}{name}" + (f" {found.cid}" if cids and found.path else ""))
    for problem in found.problems:
        print(f"carfs: {printable(b'/'.join(found.path)) or '.'}: {problem}", file=sys.stderr)


def _emit(found: Found, _branches: str, root: Cid, _cids: bool) -> None:
    emit_json_line(
        {
            "root": str(root),
            "path": printable(b"/".join(found.path)) or ".",
            "cid": str(found.cid),
            "kind": found.stat.kind.value if found.stat else "missing",
            "size": found.stat.size if found.stat else 0,
            "target": printable(found.stat.target) if found.stat and found.stat.target is not None else None,
            "problems": [str(problem) for problem in found.problems],
        }
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
