"""The CARs in an aggregate (FRC-0058), indexed as one: every block of every one of them, by where it lies in the piece.

Whoever reads the piece through the index sees its first CAR's header and can read all blocks; which segments there are
is what the aggregate's own index claims, and each block is verified when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from carlib import durable, indexing, stretch
from carlib.cid import Cid
from carlib.container import Container, read_container
from carlib.errors import CarError, Malformed
from carlib.index import MULTIHASH_INDEX_SORTED, Index, write
from carlib.index_range import IndexRange
from carlib.indexing import IndexReport, SortedRuns
from carlib.limits import MIB
from carlib.piece import aggregate
from carlib.piece.sizes import PADDED_GROUP, UNPADDED_GROUP, padded_size
from carlib.section import Sections
from carlib.source import ByteSource, FileSource, exactly
from carlib.stretch import MAX_DAMAGE, MAX_INDEX_PROBLEMS, Damage, Stretch

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
        return exactly(self.peek(offset, length), length, self.name, offset)

    def peek(self, offset: int, length: int) -> bytes:
        length = min(length, self._size - offset)
        return self._source.peek(self._offset + offset, length) if length > 0 else b""

    def stamp(self) -> Hashable:
        return self._source.stamp()

    def close(self) -> None:
        """Nothing: the source is not ours."""


def build(
    data: Path | ByteSource,
    out: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
    window_bytes: int = MIB,
) -> IndexReport:
    """Index the aggregate at a path, or in a source, its unpadded bytes, into the detached index file ``out``, which
    appears complete and durable or not at all.  What is no aggregate is indexed as the one CAR that it is.

    Segments that are no CARs are left out.  ``window_bytes``: see :class:`carlib.section.Sections`.  Raises CarError,
    also where a CAR in it is damaged, and OSError.
    """
    with ExitStack() as stack:
        source = stack.enter_context(FileSource(data)) if isinstance(data, Path) else data
        cars = _cars(source)
        if not cars:
            return indexing.build(source, out, progress=progress, window_bytes=window_bytes)
        whole, total = read_container(source, whole=False), source.size
        file = stack.enter_context(durable.replacing(out))
        runs = stack.enter_context(SortedRuns(out.parent, MULTIHASH_INDEX_SORTED))
        blocks = identities = 0
        end = whole.first_section
        for start, container in cars:
            part = Part(source, start, container.data_end)
            sections = Sections(
                part,
                container.first_section,
                container.data_end,
                zero_is_end=True,
                window_bytes=window_bytes,
            )
            try:
                for raw, at, block, size in sections:
                    cid = Cid(raw)
                    blocks += 1
                    end = start + block + size
                    if cid.is_identity:
                        identities += 1
                    else:
                        runs.add_one(cid.hash_code, cid.digest, _offset(whole, start + at, end))
                    if progress is not None and blocks % _TOLD == 0:
                        progress(end, total)
            except CarError as error:
                raise error.located(source=source.name, shift=start) from None
        size = write(file, MULTIHASH_INDEX_SORTED, runs.buckets())
    return IndexReport(
        version=whole.version,
        roots=tuple(dict.fromkeys(root for _, container in cars for root in container.roots)),
        data_offset=whole.data_offset,
        data_size=end - whole.data_offset,
        padding_size=total - end,
        block_count=blocks,
        identity_count=identities,
        index_codec=MULTIHASH_INDEX_SORTED,
        index_size=size,
    )


def check(
    source: ByteSource,
    container: Container,
    index: Index,
    start: int,
    until: int,
    *,
    hashes: bool = True,
    compare: bool = True,
) -> Stretch:
    """What :func:`carlib.stretch.check` is for one CAR, for all CARs of an aggregate; ``container`` is what
    :func:`carlib.container.read_container` says of it.  What lies between them is not looked at, unless the index knows
    blocks there.
    """
    frames = [_frame(container, at, car) for at, car in _cars(source)]
    if not frames:
        return stretch.check(source, container, index, start, until, hashes=hashes, compare=compare)
    base, found = container.data_offset, Stretch(start, start)
    known = IndexRange(index, start - base, min(until, source.size) - base)
    for frame in frames:
        if frame.data_end <= start:
            continue
        _check_gap(found, known, base, min(frame.first_section, until))
        if frame.first_section >= until:
            return found
        at = max(found.position, frame.first_section)
        part = stretch.check(source, frame, index, at, until, hashes=hashes, compare=compare, alone=False)
        found.entries += part.entries
        found.unverifiable += part.unverifiable
        found.damage += part.damage
        found.index_problems += part.index_problems[: MAX_INDEX_PROBLEMS - len(found.index_problems)]
        found.index_problem_count += part.index_problem_count
        found.position = frame.data_end if part.ended else part.position
        if not part.ended or len(found.damage) >= MAX_DAMAGE:
            return found
    _check_gap(found, known, base, min(source.size, until))
    found.ended = found.position >= source.size
    return found


def _check_gap(found: Stretch, known: IndexRange, base: int, end: int) -> None:
    """Go on to ``end``, where the next CAR begins; the CAR of blocks before that was not found."""
    if found.position < end:
        first = known.after(found.position - base - 1)
        if first is not None and base + first < end:
            problem = Malformed("blocks should lie here, and no CAR that holds them begins before")
            found.damage.append(Damage(base + first, end - base - first, problem))
        found.position = end


def _frame(whole: Container, start: int, car: Container) -> Container:
    """The frame of the CAR at ``start`` by places in the piece, its payload counted as the index does."""
    end = start + car.data_end
    return replace(
        car,
        data_offset=whole.data_offset,
        data_size=end - whole.data_offset,
        first_section=start + car.first_section,
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
