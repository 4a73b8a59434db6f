"""The CARs in an aggregate (FRC-0058), indexed as one: every block of every one of them, by where it lies in the piece.

Whoever reads the piece through the index sees its first CAR's header and can read all blocks; which segments there are
is what the aggregate's own index claims, and each block is verified when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Final

from carlib import durable, indexing
from carlib.cid import Cid
from carlib.container import Container, read_container
from carlib.errors import CarError, Malformed, Truncated
from carlib.index import MULTIHASH_INDEX_SORTED, write
from carlib.indexing import IndexReport, SortedRuns
from carlib.piece import aggregate
from carlib.piece.sizes import PADDED_GROUP, UNPADDED_GROUP, padded_size
from carlib.section import Sections
from carlib.source import ByteSource, FileSource

_TOLD: Final = 1 << 16
"""Sections between two reports of progress."""


class Part:
    """A :class:`~carlib.source.ByteSource` over a stretch of another one."""

    def __init__(self, source: ByteSource, offset: int, size: int) -> None:
        self.name = source.name
        self._source = source
        self._offset = offset
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def pread(self, offset: int, length: int) -> bytes:
        data = self.peek(offset, length)
        if len(data) != length:
            raise Truncated(f"{length} bytes are due, {len(data)} are there", source=self.name, offset=offset)
        return data

    def peek(self, offset: int, length: int) -> bytes:
        length = min(length, self._size - offset)
        return self._source.peek(self._offset + offset, length) if length > 0 else b""

    def stamp(self) -> Hashable:
        return self._source.stamp()

    def close(self) -> None:
        """Nothing: the source is not ours."""


def build(path: Path, out: Path, *, progress: Callable[[int, int], None] | None = None) -> IndexReport:
    """Index the aggregate at ``path``, its unpadded bytes, into the detached index file ``out``, which appears complete
    and durable or not at all.  What is no aggregate is indexed as the one CAR that it is.

    Segments that are no CARs are left out.  Raises CarError, also where a CAR in it is damaged, and OSError.
    """
    with FileSource(path) as source:
        cars = _cars(source)
        if not cars:
            return indexing.build(path, out, progress=progress)
        whole = read_container(source, whole=False)
        with durable.replacing(out) as file, SortedRuns(out.parent, MULTIHASH_INDEX_SORTED) as runs:
            blocks = identities = 0
            end = whole.first_section
            for start, container in cars:
                part = Part(source, start, container.data_end)
                sections = Sections(part, container.first_section, container.data_end, zero_is_end=True)
                try:
                    for raw, at, data, size in sections:
                        cid = Cid(raw)
                        blocks += 1
                        end = start + data + size
                        if cid.is_identity:
                            identities += 1
                        else:
                            runs.add_one(cid.hash_code, cid.digest, _offset(whole, start + at, end))
                        if progress is not None and blocks % _TOLD == 0:
                            progress(end, source.size)
                except CarError as error:
                    raise error.located(source=source.name, shift=start) from None
            size = write(file, MULTIHASH_INDEX_SORTED, runs.buckets())
        return IndexReport(
            version=whole.version,
            roots=tuple(dict.fromkeys(root for _, container in cars for root in container.roots)),
            data_offset=whole.data_offset,
            data_size=end - whole.data_offset,
            padding_size=source.size - end,
            block_count=blocks,
            identity_count=identities,
            index_codec=MULTIHASH_INDEX_SORTED,
            index_size=size,
        )


def _cars(source: ByteSource) -> list[tuple[int, Container]]:
    """Where the CARs of the aggregate begin, and their frames, in the order of the file; none if it is no aggregate."""
    found = aggregate.read(source, padded_size(source.size))
    cars = []
    for segment in sorted(found.segments, key=lambda one: one.offset):
        start = segment.offset // PADDED_GROUP * UNPADDED_GROUP
        size = min(segment.size // PADDED_GROUP * UNPADDED_GROUP, source.size - start)
        if size > 0:
            try:
                cars.append((start, read_container(Part(source, start, size))))
            except CarError:
                continue  # any bytes may be a piece
    return cars


def _offset(whole: Container, start: int, end: int) -> int:
    """What the index says of the section from ``start`` to ``end`` of the file."""
    if start < whole.first_section or end > whole.data_end:
        raise Malformed(
            "the aggregate begins with a CARv2, whose frame hides the CARs behind it; no index can tell of them",
            offset=start,
        )
    return start - whole.data_offset
