"""What two CARs have in common and what not: their roots, their blocks, the paths below their roots.

Equal roots are equal all the way down, so only what differs is walked.  Blocks are the same if their multihashes are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from pathlib import Path

from carlib import indexing
from carlib.blockstore import Blocks, ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.errors import CarError, LimitExceeded, Malformed
from carlib.index import Entry, Index
from carlib.limits import MAX_DAG_DEPTH
from carlib.section import HEAD_BYTES, read_head
from carlib.source import FileSource
from carlib.unixfs import Directory, Kind, stat


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


def blocks(
    left: ReadOnlyBlockstore, right: ReadOnlyBlockstore, progress: indexing.Progress | None = None
) -> Iterator[BlockChange]:
    """Blocks of one CAR alone, those of ``left`` first; no data is read.

    ``progress`` is told how far each CAR was gone through.  Raises CarError, OSError.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="carfs-")))
        indices = []
        for number, store in enumerate((left, right)):
            # Our own indices, never the CARs': what they say is to be believed, and both are sorted alike.
            indexing.build(Path(store.source.name), folder / str(number), progress=progress)
            indices.append(Index.open(stack.enter_context(FileSource(folder / str(number)))))
        for side, store, (these, those) in ((Side.LEFT, left, indices), (Side.RIGHT, right, indices[::-1])):
            for offset in sorted(_alone(these, those)):
                cid, size = _section(store, offset)
                yield BlockChange(side, cid, size)


def _alone(these: Index, those: Index) -> Iterator[int]:
    """The first offset of each multihash that only ``these`` have."""
    others = map(_key, those)
    other = next(others, None)
    for key, entries in groupby(these, _key):
        while other is not None and other < key:
            other = next(others, None)
        if other != key:
            yield min(entry.offset for entry in entries)


def _key(entry: Entry) -> tuple[int, int, bytes]:
    """What an index is sorted by."""
    return entry.hash_code or 0, len(entry.digest), entry.digest


def _section(store: ReadOnlyBlockstore, offset: int) -> tuple[Cid, int]:
    """CID and data size of the section at ``offset`` of the payload."""
    piece = store.source.peek(store.container.data_offset + offset, HEAD_BYTES)
    head = read_head(piece, 0, len(piece))
    if head is None:
        raise Malformed("section of length zero", source=store.source.name, offset=offset)
    return Cid(piece[head.cid : head.data]), head.end - head.data


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
    return {entry.name: entry.cid for entry in Directory.open(store, cid)}
