"""Aggregates (FRC-0058, "PoDSI"): pieces inside one big piece, and the index of them in its last bytes.

The index has ``max(4, 2**floor(log2(padded size / 2048 / 64)))`` entries of 64 padded bytes, at the very end::

    32  commitment of the segment
     8  offset, padded bytes from the start of the aggregate, little-endian
     8  size, padded bytes, little-endian
    16  first 126 bits of the SHA-256 of the entry with these 16 bytes zero

Anything may stand where entries could: one that is not valid is no entry, and never an error (FRC-0058, Storage
Provider data processing).  A valid one is a claim until the segment's commitment was computed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from carlib.errors import LimitExceeded, Malformed
from carlib.piece import fr32
from carlib.piece.cids import Piece
from carlib.piece.commitment import Frontier, commit
from carlib.piece.sector import Placement, place
from carlib.piece.sizes import (
    MAX_SECTOR_HEIGHT,
    NODE_BYTES,
    PADDED_GROUP,
    UNPADDED_GROUP,
    height_of,
    padded_at,
    unpadded_at,
)
from carlib.source import ByteSource
from carlib.varint import Buffer

ENTRY_BYTES: Final = 64
MIN_ENTRIES: Final = 4
_BYTES_PER_ENTRY: Final = 2048 * ENTRY_BYTES
_READ_ENTRIES: Final = 16384
"""1 MiB of the index at a time; a 64 GiB aggregate has 32 MiB of it."""
_ENTRY: Final = struct.Struct("<32sQQ16s")
_NO_CHECKSUM: Final = bytes(16)


@dataclass(frozen=True, slots=True)
class Segment:
    """One entry of the index."""

    root: bytes
    offset: int
    size: int

    @classmethod
    def parse(cls, entry: Buffer) -> Segment:
        """The segment of an entry of 64 bytes; Malformed unless its checksum and its place are right."""
        if len(entry) != ENTRY_BYTES:
            raise Malformed(f"an index entry has {ENTRY_BYTES} bytes, not {len(entry)}")
        root, offset, size, checksum = _ENTRY.unpack(entry)
        segment = cls(root, offset, size)
        if segment.checksum() != checksum:
            raise Malformed("the checksum of the index entry is wrong")
        if size == 0 or size % PADDED_GROUP or offset % PADDED_GROUP:
            raise Malformed(
                f"a segment of {size} padded bytes at {offset} is not made of groups of {PADDED_GROUP}"
            )
        if offset % segment.tree_size:
            raise Malformed(f"a segment of {size} padded bytes at {offset} is not a subtree")
        return segment

    def encode(self) -> bytes:
        """The entry, in padded form as it is."""
        return _ENTRY.pack(self.root, self.offset, self.size, self.checksum())

    def checksum(self) -> bytes:
        digest = sha256(_ENTRY.pack(self.root, self.offset, self.size, _NO_CHECKSUM)).digest()[:16]
        return digest[:-1] + bytes((digest[-1] & 0x3F,))

    @property
    def tree_size(self) -> int:
        """Padded bytes of the subtree whose root this is: the size, rounded up to a power of two."""
        return 1 << (self.size - 1).bit_length()

    @property
    def placement(self) -> Placement:
        return Placement(self.offset, self.tree_size)

    @property
    def piece(self) -> Piece:
        """The segment as a piece; the index does not say where its payload ends, so all but the padding counts."""
        return Piece(self.root, self.size // PADDED_GROUP * UNPADDED_GROUP)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What the index of an aggregate says."""

    padded_size: int
    segments: tuple[Segment, ...]
    rejected: int
    """Entries that are neither valid nor all zero."""


def max_entries(padded: int) -> int:
    """How many entries the index of an aggregate of ``padded`` bytes has room for.

    Malformed for no piece size, LimitExceeded past the largest sector.
    """
    if height_of(padded) > MAX_SECTOR_HEIGHT:
        raise LimitExceeded("size of an aggregate", padded, padded_at(MAX_SECTOR_HEIGHT))
    return max(MIN_ENTRIES, padded // _BYTES_PER_ENTRY)


def index_placement(padded: int) -> Placement:
    """Where the index lies in an aggregate of ``padded`` bytes; Malformed where there is no room for one."""
    size = max_entries(padded) * ENTRY_BYTES
    if size > padded:
        raise Malformed(f"an aggregate of {padded} padded bytes has no room for an index")
    return Placement(padded - size, size)


def read(source: ByteSource, padded: int) -> Aggregate:
    """The index of an aggregate whose unpadded data is ``source``, zeros behind it; Malformed,
    LimitExceeded, OSError."""
    where = index_placement(padded)
    if source.size > unpadded_at(height_of(padded)):
        raise Malformed(f"{source.size} bytes are more than a piece of {padded} holds", source=source.name)
    segments: list[Segment] = []
    rejected = 0
    for start in range(0, where.size, _READ_ENTRIES * ENTRY_BYTES):
        length = min(_READ_ENTRIES * ENTRY_BYTES, where.size - start) // PADDED_GROUP * UNPADDED_GROUP
        offset = where.unpadded_offset + start // PADDED_GROUP * UNPADDED_GROUP
        found, wrong = parse(fr32.pad(source.peek(offset, length).ljust(length, b"\0")), padded)
        segments += found
        rejected += wrong
    return Aggregate(padded, tuple(segments), rejected)


def parse(entries: Buffer, end: int) -> tuple[list[Segment], int]:
    """The valid entries in the padded bytes of an index, and how many are neither that nor zero.

    ``end``: where segments must end, in padded bytes.  A last entry that is cut off is not valid.
    """
    segments: list[Segment] = []
    rejected = 0
    view = memoryview(entries)
    for at in range(0, len(view), ENTRY_BYTES):
        entry = view[at : at + ENTRY_BYTES]
        if not any(entry):
            continue
        try:
            segment = Segment.parse(entry)
        except Malformed:
            rejected += 1
            continue
        if segment.placement.end > end:
            rejected += 1
        else:
            segments.append(segment)
    return segments, rejected


def build(pieces: Sequence[Piece], padded: int) -> tuple[Piece, bytes]:
    """The aggregate of ``pieces`` in ``padded`` bytes, and its index in padded form; Malformed if they do not fit."""
    where = index_placement(padded)
    if len(pieces) > max_entries(padded):
        raise Malformed(
            f"{len(pieces)} pieces, and {max_entries(padded)} entries in an aggregate of {padded}"
        )
    places = place((piece.padded_size for piece in pieces), where.offset)
    index = encode(
        Segment(piece.root, at.offset, at.size) for piece, at in zip(pieces, places, strict=True)
    ).ljust(where.size, b"\0")
    frontier = Frontier()
    for piece, at in zip(pieces, places, strict=True):
        frontier.push_zeros(at.offset // NODE_BYTES - frontier.leaves)
        frontier.push(piece.height, piece.root)
    frontier.push_zeros(where.offset // NODE_BYTES - frontier.leaves)
    frontier.push(height_of(where.size), commit(fr32.unpad(index)).root)
    height = height_of(padded)
    return Piece(frontier.root(height), unpadded_at(height)), index


def encode(segments: Iterable[Segment]) -> bytes:
    """The entries, one after another."""
    return b"".join(segment.encode() for segment in segments)
