"""A traversal as a CAR whose size is known before its first byte: what servers announce and pipes are given.

The traversal is walked twice, for the sizes and then for the bytes, as go-car's selective writer does.  Nothing is
opened or written here but an unlinked temporary file for the index: the caller takes the chunks wherever they go.
Source: CARv1; CARv2, Header and Index formats.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from carlib import index, varint
from carlib.cid import Cid
from carlib.errors import CarError, LimitExceeded
from carlib.header import PRAGMA, V2_PREFIX_BYTES, V1Header, V2Header
from carlib.index import INDEX_SORTED, MULTIHASH_INDEX_SORTED, OFFSET_BYTES
from carlib.indexing import SortedRuns
from carlib.limits import KIB, MAX_BLOCK_BYTES, MIB
from carlib.traversal import Visit, Walkable

_CHUNK: Final = 64 * KIB
"""Small sections are given together, at least this much at once."""


class ExportChanged(CarError):
    """The second walk was not the first one again: blocks came or went meanwhile, and what was announced is wrong."""


@dataclass(frozen=True, slots=True)
class Export:
    """A CAR that could be written now; all sizes in bytes, exact."""

    source: Walkable
    roots: tuple[Cid, ...]
    version: int
    index_codec: int | None
    """None for a CARv1, and for a CARv2 without an index."""
    size: int
    """Of the whole CAR."""
    payload_size: int
    """Of the CARv1 that it is or holds."""
    blocks: int
    missing: tuple[Cid, ...]
    """What the first walk had to leave out; always empty unless the rules skip what is missing."""
    has_identity: bool
    """Whether identity CIDs have sections: then the index lists them too, and the header says so."""
    _fingerprint: bytes

    @classmethod
    def plan(
        cls,
        source: Walkable,
        *,
        version: int = 1,
        roots: Sequence[Cid] | None = None,
        index_codec: int | None = MULTIHASH_INDEX_SORTED,
    ) -> Self:
        """Walk ``source`` for its size; of leaves only the sizes are asked for.

        ``roots``: what stands in the header, those of the source if None.  Raises what the walk raises, LimitExceeded
        for a block that no reader would take.
        """
        if version not in (1, 2):
            raise ValueError(f"CAR version {version}")
        header = tuple(source.roots if roots is None else roots)
        codec = index_codec if version == 2 else None
        payload = len(V1Header(header).encode())
        books, entries, identity = _Books(), Counter[tuple[int, int]](), False
        walk = source.walk(data=False)
        for visit in walk:
            payload += books.add(visit)
            identity = identity or visit.cid.is_identity
            if codec is not None:
                entries[visit.cid.hash_code, len(visit.cid.digest)] += 1
        size = payload + (V2_PREFIX_BYTES if version == 2 else 0)
        size += 0 if codec is None else _index_size(codec, entries)
        return cls(
            source,
            header,
            version,
            codec,
            size,
            payload,
            books.blocks,
            walk.missing,
            identity,
            books.digest(),
        )

    def chunks(self) -> Iterator[bytes]:
        """The CAR, once through; every call walks anew.

        Raises what the walk raises, and ExportChanged as soon as there would be more bytes than were announced, or
        at the end where there are fewer or others: no more than ``size`` bytes are ever given.
        """
        if self.version == 1:
            yield from _joined(self._payload(None))
            return
        with tempfile.TemporaryDirectory(prefix="carfs-") as folder:
            runs = None if self.index_codec is None else SortedRuns(Path(folder), self.index_codec)
            try:
                yield from _joined(self._v2(runs))
            finally:
                if runs is not None:
                    runs.close()

    def _v2(self, runs: SortedRuns | None) -> Iterator[bytes]:
        index_offset = V2_PREFIX_BYTES + self.payload_size if runs is not None else 0
        header = V2Header(V2_PREFIX_BYTES, self.payload_size, index_offset)
        if self.has_identity and runs is not None:
            header = header.with_fully_indexed()
        yield PRAGMA + header.encode()
        yield from self._payload(runs)
        if runs is not None and self.index_codec is not None:
            with tempfile.TemporaryFile() as file:
                index.write(file, self.index_codec, runs.buckets())
                file.seek(0)
                while piece := file.read(MIB):
                    yield piece

    def _payload(self, runs: SortedRuns | None) -> Iterator[bytes]:
        header = V1Header(self.roots).encode()
        yield header
        position, books = len(header), _Books()
        for visit in self.source.walk(data=True):
            cid, data = visit.cid, visit.data
            if data is None:
                raise AssertionError("a walk for data has data")
            size = books.add(visit)
            if position + size > self.payload_size:
                raise ExportChanged(f"block {cid} is more than the {self.payload_size} bytes announced")
            if runs is not None:
                runs.add_one(cid.hash_code, cid.digest, position)
            yield varint.encode(len(cid.raw) + len(data)) + cid.raw
            yield data
            position += size
        if books.digest() != self._fingerprint:
            raise ExportChanged(
                f"{books.blocks} blocks in {position} bytes, not the {self.blocks} in {self.payload_size} announced"
            )


class _Books:
    """What one walk came to: the same blocks in the same order have the same digest."""

    __slots__ = ("_hash", "blocks")

    def __init__(self) -> None:
        self.blocks = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, visit: Visit) -> int:
        """Count the block; bytes of its section."""
        if visit.size > MAX_BLOCK_BYTES:
            raise LimitExceeded("block length", visit.size, MAX_BLOCK_BYTES)
        self.blocks += 1
        raw = visit.cid.raw
        length = len(raw) + visit.size
        head = varint.encode(length)
        self._hash.update(head + raw)
        return len(head) + length

    def digest(self) -> bytes:
        return self._hash.digest()


def _index_size(codec: int, entries: Counter[tuple[int, int]]) -> int:
    """Bytes of an index with so many entries by hash code and digest length; the format is in :mod:`carlib.index`."""
    size = (
        len(varint.encode(codec))
        + 4
        + sum(count * (width + OFFSET_BYTES) for (_, width), count in entries.items())
    )
    if codec == INDEX_SORTED:
        return size + 12 * len({width for _, width in entries})
    return size + 12 * len({code for code, _ in entries}) + 12 * len(entries)


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in chunks of :data:`_CHUNK` or more; large pieces pass without a copy."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        if len(piece) >= _CHUNK:
            if held:
                yield b"".join(held)
            yield piece
            held, size = [], 0
            continue
        held.append(piece)
        size += len(piece)
        if size >= _CHUNK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
