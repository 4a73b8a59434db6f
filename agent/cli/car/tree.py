"""Everything below a root, depth first, for `carfs car ls --unixfs`; what is missing is told, not raised."""

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
    problems: tuple[CarError, ...]


def walk(blocks: Blocks, root: Cid) -> Iterator[Found]:
    """The objects below `root`, itself first, each directory before what is in it."""
    pending: list[tuple[tuple[bytes, ...], Cid]] = [((), root)]
    while pending:
        path, cid = pending.pop()
        found: Stat | None = None
        problems: list[CarError] = []
        try:
            found = stat(blocks, cid)
            if found.kind is Kind.DIRECTORY:
                if len(path) >= MAX_DAG_DEPTH:
                    raise LimitExceeded("depth of the directory", len(path) + 1, MAX_DAG_DEPTH)
                entries = Directory.open(blocks, cid).entries(problems.append)
                pending += reversed([((*path, shown(entry.name)), entry.cid) for entry in entries])
        except CarError as error:
            problems.append(error)
        yield Found(path, cid, found, tuple(problems))
