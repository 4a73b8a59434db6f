"""Reading a file of a DAG: verified before it is handed out, hashed ahead of a sequential reader, cheap at random.

    read ──► in a piece that is ready? ───────────────► a slice of it, no copy
       ├───► in a raw leaf that was verified, and in the page cache? ─► read right there (`OpenShard.peek`)
       ├───► goes on where the last one ended? ─► the plan: pieces of 1 MiB (several small leaves, or one big), read and
       │                                          hashed in threads, four ahead of the reader
       └───► else: the parts of the leaves, in a thread; a leaf is hashed when first touched, then never again

A piece is dropped once all of it was handed out: the kernel keeps what it was given.  All handles together
hold a bounded number of bytes ahead of their readers (`waits.Ahead`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

import trio

from carlib import unixfs
from carlib.cid import Cid
from carlib.errors import CarError, Malformed
from carlib.limits import MIB
from carlib.unixfs import Leaf, leaf_payload
from fusefs.errors import FAULTS, AgentAway, Overdue, ShardBroken
from fusefs.origin import Opened, Origin
from fusefs.resident import MOST_BYTES, NotResident
from fusefs.tree import Buffer
from fusefs.waits import OVERDUE_S, Job

PIECE_BYTES: Final = MIB
PIECES_AHEAD: Final = 4
_NEAR_BYTES: Final = 4 * MIB
"""How far from the end of the last request a large one may begin and still be read-ahead of the kernel's (it
sends several at once).
"""
_LARGE_BYTES: Final = 64 * 1024
_PLAN_PIECES: Final = 32
_KNOWN_LEAVES: Final = 16_384
_KEPT_PIECES: Final = 8


class LeafSource(Protocol):
    """Which blocks hold a file's bytes."""

    size: int
    only_leaf: Leaf | None
    """The leaf of a file that is one raw block."""

    def leaves(self, opened: Opened, start: int, stop: int) -> Iterator[Leaf]:
        """The leaves that hold the bytes from `start` to `stop`, in order; may block."""


class WholeBlock:
    """A file that is one block: a raw leaf, or any block shown as it is."""

    def __init__(self, cid: Cid, size: int) -> None:
        self.size = size
        leaf = Leaf(cid, 0, size, wrapped=False)
        self.only_leaf: Leaf | None = leaf
        self._leaf = leaf

    def leaves(self, opened: Opened, start: int, stop: int) -> Iterator[Leaf]:
        yield self._leaf


class FileLeaves:
    """A UnixFS file of several blocks, or of one that wraps its bytes."""

    def __init__(self, cid: Cid, size: int) -> None:
        self.size = size
        self.only_leaf: Leaf | None = None
        self._cid = cid
        self._file: unixfs.File | None = None

    def leaves(self, opened: Opened, start: int, stop: int) -> Iterator[Leaf]:
        if self._file is None:
            self._file = unixfs.File.open(opened.blocks, self._cid)
        return self._file.leaves(start, stop)


@dataclass(slots=True, eq=False)
class Piece:
    """Neighbouring leaves that are read as one; `job` gives their bytes."""

    start: int
    stop: int
    leaves: tuple[Leaf, ...]
    job: Job[Buffer] | None = None
    handed_out: int = 0


@dataclass(slots=True)
class Known:
    """Raw leaves that were verified: where their bytes lie in the CAR file, by place in the file."""

    starts: list[int] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    """End of the leaf in the file, and what to add to a place in the file to get one in the CAR file."""

    def add(self, leaf: Leaf, shift: int) -> None:
        position = bisect_right(self.starts, leaf.start)
        if position and self.starts[position - 1] == leaf.start:
            return
        if len(self.starts) >= _KNOWN_LEAVES:
            self.starts.clear()
            self.places.clear()
            position = 0
        self.starts.insert(position, leaf.start)
        self.places.insert(position, (leaf.stop, shift))

    def place(self, start: int, stop: int) -> int | None:
        """Where in the CAR file the bytes from `start` to `stop` lie, if one known leaf has them all."""
        position = bisect_right(self.starts, start)
        if not position:
            return None
        end, shift = self.places[position - 1]
        return start + shift if stop <= end else None


class DagContent:
    """One handle's reading of a file of a DAG."""

    cacheable = True

    def __init__(self, shard: Origin, source: LeafSource) -> None:
        self._shard = shard
        self._source = source
        self._opened: Opened | None = shard.hold_nowait()
        self._closed = False
        self._planning = trio.Lock()
        self._plan: list[Piece] = []
        self._held: dict[int, Piece] = {}
        self._known = Known()
        self._next = 0
        self._overdue_until = 0.0

    def close(self) -> None:
        self._closed = True
        for piece in list(self._held.values()):
            self._forget(piece)
        opened, self._opened = self._opened, None
        if opened is not None:
            self._shard.drop(opened)

    def read_nowait(self, offset: int, size: int) -> Buffer | None:
        stop = min(offset + size, self._source.size)
        if offset >= stop:
            return b""
        piece = self._planned(offset)
        if piece is not None and stop <= piece.stop and piece.job is not None and piece.job.done:
            try:
                return self._from_piece(piece, piece.job, offset, stop)
            except FAULTS:
                self._forget(piece)
                return None  # reading says what is wrong
        if self._opened is None:
            return None
        place = self._known.place(offset, stop)
        if place is None:
            return self._small(offset, stop)
        self._next = stop
        return self._opened.peek(place, stop - offset)

    def _small(self, offset: int, stop: int) -> Buffer | None:
        """From a small file in memory: verified right here, for less than a thread costs."""
        resident = None if self._opened is None else self._opened.resident
        leaf = self._source.only_leaf
        if leaf is None or resident is None or self._source.size > MOST_BYTES:
            return None
        try:
            data = resident.get(leaf.cid)
        except (NotResident, CarError):
            return None  # the real store says what is wrong, or reads it
        self._next = stop
        return memoryview(data)[offset:stop] if len(data) == self._source.size else None

    async def read(self, offset: int, size: int) -> Buffer:
        stop = min(offset + size, self._source.size)
        if trio.current_time() < self._overdue_until:
            raise Overdue("no data came for the last read, a moment ago")
        try:
            return await self._shard.waits.within_deadline(
                self._shard.lane, partial(self._read, offset, stop)
            )
        except Overdue:
            self._overdue_until = trio.current_time() + OVERDUE_S
            raise

    async def _read(self, offset: int, stop: int) -> Buffer:
        sequential = offset == self._next or (
            stop - offset >= _LARGE_BYTES and abs(offset - self._next) <= _NEAR_BYTES
        )
        self._next = stop if not sequential else max(self._next, stop)
        if sequential:
            try:
                return await self._read_pieces(offset, stop)
            except (CarError, OSError, ShardBroken, AgentAway):
                pass  # a piece has more than was asked for: what is asked for may be whole
        return await self._read_parts(offset, stop)

    # Sequential reading

    async def _read_pieces(self, offset: int, stop: int) -> Buffer:
        await self._extend_plan(offset, stop)
        wanted = []
        position = offset
        while position < stop:
            piece = self._planned(position)
            if piece is None:  # another reader of this handle has moved the plan elsewhere
                return await self._read_parts(offset, stop)
            job = piece.job
            if job is None:
                job = await self._shard.waits.start(self._shard.lane, self._reading(piece))
                self._hold(piece, job)
            wanted.append((piece, job))
            position = piece.stop
        self._start_ahead(stop)
        for piece, job in wanted:
            try:
                await job.wait()
            except Exception:
                self._forget(piece)  # so that it is tried again; a wait that is overdue leaves it under way
                raise
        if self._opened is None and not self._closed:
            self._opened = self._shard.hold_nowait()
        if len(wanted) == 1:
            return self._from_piece(*wanted[0], offset, stop)
        return b"".join(
            self._from_piece(piece, job, max(offset, piece.start), min(stop, piece.stop))
            for piece, job in wanted
        )

    def _from_piece(self, piece: Piece, job: Job[Buffer], start: int, stop: int) -> Buffer:
        data = memoryview(job.value())[start - piece.start : stop - piece.start]
        piece.handed_out += stop - start
        self._next = max(self._next, stop)
        if piece.handed_out >= piece.stop - piece.start:
            self._forget(piece)
        self._start_ahead(stop)
        return data

    def _planned(self, offset: int) -> Piece | None:
        position = bisect_right(self._plan, offset, key=_start)
        if position and offset < self._plan[position - 1].stop:
            return self._plan[position - 1]
        return None

    async def _extend_plan(self, offset: int, stop: int) -> None:
        """Sees to it that the plan has the bytes from `offset` to `stop` and some more."""
        async with self._planning:
            if self._planned(offset) is None:
                for piece in list(self._held.values()):
                    self._forget(piece)
                self._plan = []
            end = self._plan[-1].stop if self._plan else offset
            if end >= min(stop + PIECES_AHEAD * PIECE_BYTES, self._source.size):
                return
            far = max(stop, end) + _PLAN_PIECES * PIECE_BYTES
            leaf = self._source.only_leaf
            if leaf is not None:
                more = [Piece(leaf.start, leaf.stop, (leaf,))]
            else:
                job = await self._shard.waits.start(self._shard.lane, partial(self._pieces, end, far))
                more = await job.wait()
            behind = bisect_right(self._plan, self._next - _NEAR_BYTES, key=_start)
            self._plan = self._plan[max(0, behind - 1) :] + more

    def _pieces(self, start: int, stop: int) -> list[Piece]:
        """In a thread: the pieces from `start` on, up to `stop` or a little further."""
        pieces: list[Piece] = []
        leaves: list[Leaf] = []
        with self._shard.use() as opened:
            for leaf in self._source.leaves(opened, start, min(stop, self._source.size)):
                leaves.append(leaf)
                if leaf.stop - leaves[0].start >= PIECE_BYTES:
                    pieces.append(Piece(leaves[0].start, leaf.stop, tuple(leaves)))
                    leaves = []
        if leaves:
            pieces.append(Piece(leaves[0].start, leaves[-1].stop, tuple(leaves)))
        return pieces

    def _start_ahead(self, offset: int) -> None:
        """Starts reading the next pieces, as far as there is room and a free thread."""
        ahead = self._shard.waits.ahead
        first = bisect_right(self._plan, offset, key=_start) - 1
        for piece in self._plan[max(0, first) : first + 1 + PIECES_AHEAD]:
            if piece.job is None and piece.handed_out == 0 and piece.stop > offset:
                if not ahead.room:
                    return
                job = self._shard.waits.start_nowait(self._shard.lane, self._reading(piece))
                if job is None:
                    return
                self._hold(piece, job)

    def _hold(self, piece: Piece, job: Job[Buffer]) -> None:
        if self._closed:
            return
        piece.job = job
        piece.handed_out = 0
        self._held[piece.start] = piece
        self._shard.waits.ahead.held += piece.stop - piece.start
        while len(self._held) > _KEPT_PIECES + PIECES_AHEAD:
            self._forget(next(iter(self._held.values())))

    def _forget(self, piece: Piece) -> None:
        if self._held.pop(piece.start, None) is not None:
            self._shard.waits.ahead.held -= piece.stop - piece.start
        piece.job = None

    def _reading(self, piece: Piece) -> partial[Buffer]:
        return partial(self._read_piece, piece)

    def _read_piece(self, piece: Piece) -> Buffer:
        """In a thread: all bytes of a piece, verified."""
        with self._shard.use() as opened:
            parts = [leaf_payload(leaf.cid, opened.blocks.get(leaf.cid), leaf) for leaf in piece.leaves]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # Reading at random

    async def _read_parts(self, offset: int, stop: int) -> Buffer:
        job = await self._shard.waits.start(self._shard.lane, partial(self._parts, offset, stop))
        data, verified = await job.wait()
        for leaf, shift in verified:
            self._known.add(leaf, shift)
        if self._opened is None and not self._closed:
            self._opened = self._shard.hold_nowait()
        return data

    def _parts(self, offset: int, stop: int) -> tuple[Buffer, list[tuple[Leaf, int]]]:
        """In a thread: the bytes from `offset` to `stop`, and which raw leaves are now known to be good."""
        parts: list[Buffer] = []
        verified = []
        with self._shard.use() as opened:
            for leaf in self._source.leaves(opened, offset, stop):
                start, end = max(0, offset - leaf.start), min(leaf.stop, stop) - leaf.start
                if leaf.wrapped:
                    parts.append(leaf_payload(leaf.cid, opened.blocks.get(leaf.cid), leaf)[start:end])
                    continue
                parts.append(opened.blocks.read(leaf.cid, start, end))
                found = opened.blocks.locate(leaf.cid)
                if found is None or found.size != leaf.stop - leaf.start:
                    raise Malformed(
                        f"leaf {leaf.cid} has not the {leaf.stop - leaf.start} bytes that its parent says"
                    )
                if not leaf.cid.is_identity and found.data_offset >= 0:
                    verified.append((leaf, found.data_offset - leaf.start))
        return (parts[0] if len(parts) == 1 else b"".join(parts)), verified


def _start(piece: Piece) -> int:
    return piece.start
