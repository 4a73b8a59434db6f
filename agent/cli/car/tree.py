"""Everything below a root, depth first, for `carfs car list --unixfs` and `tree`; what is missing is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from carlib.blockstore import Blocks
from carlib.cid import Cid
from carlib.errors import CarError, LimitExceeded
from carlib.limits import MAX_DAG_DEPTH
from carlib.names import shown
from carlib.unixfs import Directory, Kind, Stat, stat


@dataclass(frozen=True, slots=True)
class Found:
    """One object: its path in names as a file system shows them, and what is wrong with it or its listing."""

    path: tuple[bytes, ...]
    cid: Cid
    stat: Stat | None
    is_last: bool
    """Whether it is the last in its directory."""
    problems: tuple[CarError, ...]


def walk(blocks: Blocks, root: Cid, depth: int | None = None) -> Iterator[Found]:
    """The objects below `root`, itself first, each directory before what is in it, at most `depth` levels down."""
    pending: list[tuple[tuple[bytes, ...], Cid, bool]] = [((), root, True)]
    while pending:
        path, cid, is_last = pending.pop()
        found: Stat | None = None
        problems: list[CarError] = []
        try:
            found = stat(blocks, cid)
            if found.kind is Kind.DIRECTORY and (depth is None or len(path) < depth):
                if len(path) >= MAX_DAG_DEPTH:
                    raise LimitExceeded("depth of the directory", len(path) + 1, MAX_DAG_DEPTH)
                below = [
                    (shown(each.name), each.cid)
                    for each in Directory.open(blocks, cid).entries(problems.append)
                ]
                pending += [
                    ((*path, name), each, not number) for number, (name, each) in enumerate(reversed(below))
                ]
        except CarError as error:
            problems.append(error)
        yield Found(path, cid, found, is_last, tuple(problems))
