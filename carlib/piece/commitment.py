"""CommP: the root over a piece, computed as its bytes come, with one pending node a level.

Leaves are the 32-byte groups of fr32; a node is SHA-256 of its two children, cut to 254 bits; what is missing to a
power of two is zero, and subtrees of zeros come from a table.  Source: Filecoin specification, Piece Commitment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

from carlib.errors import CarError, LimitExceeded, Malformed
from carlib.piece import kernel
from carlib.piece.cids import Piece
from carlib.piece.sizes import (
    MAX_HEIGHT,
    MAX_SECTOR_HEIGHT,
    MIN_HEIGHT,
    NODE_BYTES,
    height_for,
    height_of,
    padded_at,
    unpadded_at,
)
from carlib.source import ByteSource, FileSource
from carlib.varint import Buffer

CHUNK_HEIGHT: Final = 13
"""Subtrees hashed in one call: 256 KiB padded, 0.3 ms in C, 6 ms in Python."""
CHUNK_BYTES: Final = unpadded_at(CHUNK_HEIGHT)
SPAN_HEIGHT: Final = 19
"""What one worker is given at a time: 16 MiB padded."""
SPAN_BYTES: Final = unpadded_at(SPAN_HEIGHT)
READ_BYTES: Final = 4 * CHUNK_BYTES

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes there are."""


def node(left: bytes, right: bytes) -> bytes:
    """The parent of two nodes."""
    digest = sha256(left + right).digest()
    return digest[:-1] + bytes((digest[-1] & 0x3F,))


def _zero_roots() -> tuple[bytes, ...]:
    roots = [bytes(NODE_BYTES)]
    for _ in range(MAX_HEIGHT):
        roots.append(node(roots[-1], roots[-1]))
    return tuple(roots)


ZERO_ROOTS: Final = _zero_roots()
"""Root over zeros, by height."""


class Frontier:
    """A tree that grows to the right by whole subtrees; at most one pending root a height is kept."""

    def __init__(self) -> None:
        self._pending: list[tuple[int, bytes]] = []  # heights fall from left to right
        self.leaves = 0

    def push(self, height: int, root: bytes) -> None:
        """Add a subtree; ValueError unless what is there ends where one of this height may begin."""
        if self.leaves & ((1 << height) - 1):
            raise ValueError(f"a subtree of height {height} cannot begin at leaf {self.leaves}")
        self.leaves += 1 << height
        while self._pending and self._pending[-1][0] == height:
            root = node(self._pending.pop()[1], root)
            height += 1
        self._pending.append((height, root))

    def push_zeros(self, leaves: int) -> None:
        """Add ``leaves`` zero leaves, in O(log n)."""
        end = self.leaves + leaves
        while self.leaves < end:
            at_most = (end - self.leaves).bit_length() - 1
            aligned = (self.leaves & -self.leaves).bit_length() - 1 if self.leaves else at_most
            height = min(at_most, aligned)
            self.push(height, ZERO_ROOTS[height])

    def root(self, height: int) -> bytes:
        """The root of the tree of ``height``, zeros behind what is there; ValueError if that does not fit."""
        if self.leaves > 1 << height:
            raise ValueError(f"{self.leaves} leaves do not fit under height {height}")
        if not self._pending:
            return ZERO_ROOTS[height]
        at, root = self._pending[-1]
        for left_height, left in reversed(self._pending[:-1]):
            root = node(left, pad_root(root, at, left_height))
            at = left_height + 1
        return pad_root(root, at, height)

    def copy(self) -> Frontier:
        twin = Frontier()
        twin._pending, twin.leaves = self._pending.copy(), self.leaves
        return twin


def pad_root(root: bytes, height: int, target: int) -> bytes:
    """The root at height ``target`` with zeros to the right of ``root`` (go-fil-commp-hashhash: PadCommP)."""
    if not 0 <= height <= target <= MAX_HEIGHT:
        raise ValueError(f"height {height} cannot be padded to {target}")
    for at in range(height, target):
        root = node(root, ZERO_ROOTS[at])
    return root


class Commitment:
    """The commitment of a payload that is fed in pieces of any size; not for several threads at once.

    Holds less than :data:`CHUNK_BYTES` of payload and a node a level, whatever the size.
    """

    def __init__(
        self, *, max_height: int = MAX_SECTOR_HEIGHT, subtree: kernel.Subtree = kernel.subtree
    ) -> None:
        """Refuse payloads that need a higher tree than ``max_height``."""
        self._frontier = Frontier()
        self._carry = bytearray()
        self._subtree = subtree
        self._maximum = unpadded_at(max_height)
        self.payload_size = 0

    def update(self, data: Buffer) -> None:
        """Take ``data`` as what comes next; LimitExceeded, nothing taken, if the piece became too big."""
        view = memoryview(data).cast("B")
        self._count(len(view))
        start = 0
        if self._carry:
            start = min(len(view), CHUNK_BYTES - len(self._carry))
            self._carry += view[:start]
            self._flush()
        whole = start + (len(view) - start) // CHUNK_BYTES * CHUNK_BYTES
        for at in range(start, whole, CHUNK_BYTES):
            self._frontier.push(CHUNK_HEIGHT, self._subtree(view[at : at + CHUNK_BYTES]))
        self._carry += view[whole:]

    def update_zeros(self, count: int) -> None:
        """Take ``count`` zero bytes, in O(log n) for whole chunks of them; LimitExceeded as in :meth:`update`."""
        if count < 0:
            raise ValueError(f"{count} zero bytes")
        self._count(count)
        if self._carry:
            first = min(count, CHUNK_BYTES - len(self._carry))
            self._carry += bytes(first)
            self._flush()
            count -= first
        chunks, rest = divmod(count, CHUNK_BYTES)
        self._frontier.push_zeros(chunks << CHUNK_HEIGHT)
        self._carry += bytes(rest)

    def piece(self) -> Piece:
        """The piece of what was fed so far; more may be fed afterwards."""
        frontier = self._frontier
        if self._carry:
            frontier = frontier.copy()
            height = height_for(len(self._carry))
            frontier.push(height, self._subtree(self._carry + bytes(unpadded_at(height) - len(self._carry))))
        return Piece(frontier.root(height_for(self.payload_size)), self.payload_size)

    def _count(self, more: int) -> None:
        if self.payload_size + more > self._maximum:
            raise LimitExceeded("payload size", self.payload_size + more, self._maximum)
        self.payload_size += more

    def _flush(self) -> None:
        if len(self._carry) == CHUNK_BYTES:
            self._frontier.push(CHUNK_HEIGHT, self._subtree(self._carry))
            self._carry = bytearray()


def commit(data: Buffer) -> Piece:
    """The piece that ``data`` is."""
    commitment = Commitment()
    commitment.update(data)
    return commitment.piece()


def commit_source(source: ByteSource, *, progress: Progress | None = None) -> Piece:
    """The piece that all of ``source`` is; CarError if it changed meanwhile, LimitExceeded, Truncated, OSError."""
    size = source.size
    commitment = Commitment()
    with _unchanged(source):
        for start in range(0, size, READ_BYTES):
            commitment.update(source.pread(start, min(READ_BYTES, size - start)))
            if progress:
                progress(commitment.payload_size, size)
    return commitment.piece()


def commit_file(path: Path, *, executor: Executor | None = None, progress: Progress | None = None) -> Piece:
    """The piece that the file is; an ``executor`` shares the work.

    Threads do where :data:`~carlib.piece.kernel.RELEASES_GIL`, processes elsewhere.  Raises as :func:`commit_source`.
    """
    with FileSource(path) as source:
        if executor is None or source.size <= SPAN_BYTES:
            return commit_source(source, progress=progress)
        with _unchanged(source):
            return _commit_spans(path, source.size, executor, progress)


def span_root(path: Path, offset: int, length: int) -> bytes:
    """Root at :data:`SPAN_HEIGHT` of ``length`` bytes of a file, zeros behind; can be pickled, for workers."""
    commitment = Commitment(max_height=SPAN_HEIGHT)
    with FileSource(path) as source:
        for start in range(offset, offset + length, READ_BYTES):
            commitment.update(source.pread(start, min(READ_BYTES, offset + length - start)))
    piece = commitment.piece()
    return pad_root(piece.root, piece.height, SPAN_HEIGHT)


def join(pieces: Iterable[Piece], padded: int | None = None) -> Piece:
    """The piece that holds others: each at the next multiple of its own size, zeros between and behind them.

    That is the layout of sectors (:func:`carlib.piece.sector.place`) and aggregates.  ``padded``: its size, else the
    least; Malformed if that is no piece size or too small.  All of it counts as payload.
    """
    frontier = Frontier()
    for piece in pieces:
        frontier.push_zeros(-frontier.leaves % (1 << piece.height))
        frontier.push(piece.height, piece.root)
    least = max(MIN_HEIGHT, (frontier.leaves - 1).bit_length() if frontier.leaves else 0)
    height = least if padded is None else height_of(padded)
    if height < least:
        raise Malformed(f"the pieces need {padded_at(least)} padded bytes, there are {padded}")
    return Piece(frontier.root(height), unpadded_at(height))


def pad_piece(piece: Piece, padded: int) -> Piece:
    """The piece with zeros behind it, ``padded`` bytes in all, which count as payload; Malformed if it is bigger."""
    return join([piece], padded)


def _commit_spans(path: Path, size: int, executor: Executor, progress: Progress | None) -> Piece:
    if size > unpadded_at(MAX_SECTOR_HEIGHT):
        raise LimitExceeded("payload size", size, unpadded_at(MAX_SECTOR_HEIGHT), source=str(path))
    starts = range(0, size, SPAN_BYTES)
    lengths = [min(SPAN_BYTES, size - start) for start in starts]
    frontier = Frontier()
    for start, root in zip(
        starts, executor.map(span_root, [path] * len(starts), starts, lengths), strict=True
    ):
        frontier.push(SPAN_HEIGHT, root)
        if progress:
            progress(min(start + SPAN_BYTES, size), size)
    return Piece(frontier.root(height_for(size)), size)


@contextmanager
def _unchanged(source: ByteSource) -> Iterator[None]:
    stamp = source.stamp()
    yield
    if source.stamp() != stamp:
        raise CarError("the data changed while its commitment was computed", source=source.name)
