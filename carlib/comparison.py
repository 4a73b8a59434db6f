"""What two CARs have in common and what not: their roots, their blocks, the paths below their roots.

Equal roots are equal all the way down, so only what differs is walked.  Blocks are the same if their multihashes are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from carlib.blockstore import Blocks, ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.errors import CarError, LimitExceeded
from carlib.limits import MAX_DAG_DEPTH
from carlib.unixfs import Directory, Entry, Kind, stat


class Side(Enum):
    """Where something is, with the sign that it is shown with."""

    LEFT = "-"
    RIGHT = "+"
    BOTH = "~"
    """In both, and different."""


@dataclass(frozen=True, slots=True)
class RootChange:
    """A root that only one of the headers has."""

    side: Side
    cid: Cid


@dataclass(frozen=True, slots=True)
class BlockChange:
    """A block that only one of the CARs has; each is told once, in file order."""

    side: Side
    cid: Cid
    size: int


@dataclass(frozen=True, slots=True)
class PathChange:
    """A path, in stored names, with the CIDs on either side; None where there is nothing."""

    side: Side
    path: tuple[bytes, ...]
    left: Cid | None
    right: Cid | None
    problem: CarError | None = None
    """Why what lies below could not be compared."""


def roots(left: ReadOnlyBlockstore, right: ReadOnlyBlockstore) -> Iterator[RootChange]:
    """Roots of one header alone, those of ``left`` first."""
    for side, these, those in ((Side.LEFT, left, right), (Side.RIGHT, right, left)):
        for cid in dict.fromkeys(these.roots):
            if cid not in those.roots:
                yield RootChange(side, cid)


def blocks(left: ReadOnlyBlockstore, right: ReadOnlyBlockstore) -> Iterator[BlockChange]:
    """Blocks of one CAR alone, those of ``left`` first; no data is read.  Raises CarError, OSError."""
    for side, these, those in ((Side.LEFT, left, right), (Side.RIGHT, right, left)):
        told: set[bytes] = set()
        for cid, location in these.cids():
            if not those.has(cid) and cid.multihash not in told:
                told.add(cid.multihash)
                yield BlockChange(side, cid, location.size)


def paths(left: Blocks, left_root: Cid, right: Blocks, right_root: Cid) -> Iterator[PathChange]:
    """What differs below two roots of UnixFS, in the order of names; a directory before what is in it.

    What only one side has is told as one, whatever it holds.  Raises OSError.
    """
    pending: list[tuple[tuple[bytes, ...], Cid | None, Cid | None]] = [((), left_root, right_root)]
    while pending:
        path, one, other = pending.pop()
        if one is None or other is None:
            yield PathChange(Side.RIGHT if one is None else Side.LEFT, path, one, other)
            continue
        if one.multihash == other.multihash:
            continue
        try:
            below = _children(left, one, right, other, len(path))
        except CarError as error:
            yield PathChange(Side.BOTH, path, one, other, error)
            continue
        yield PathChange(Side.BOTH, path, one, other)
        pending += [((*path, name), ours, theirs) for name, ours, theirs in reversed(below)]


def _children(
    left: Blocks, one: Cid, right: Blocks, other: Cid, depth: int
) -> list[tuple[bytes, Cid | None, Cid | None]]:
    """Names in two directories with what they are on either side; nothing unless both are directories."""
    if stat(left, one).kind is not Kind.DIRECTORY or stat(right, other).kind is not Kind.DIRECTORY:
        return []
    if depth >= MAX_DAG_DEPTH:
        raise LimitExceeded("depth of the directory", depth + 1, MAX_DAG_DEPTH)
    ours, theirs = _entries(left, one), _entries(right, other)
    return [(name, ours.get(name), theirs.get(name)) for name in sorted(ours.keys() | theirs.keys())]


def _entries(store: Blocks, cid: Cid) -> dict[bytes, Cid]:
    entries: Iterator[Entry] = iter(Directory.open(store, cid))
    return {entry.name: entry.cid for entry in entries}
