"""Byte sources over others: with some ranges replaced, and with what cannot be read replaced by zeros and noted."""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from carlib.source import ByteSource, exactly

PAGE: Final = 4096
_UNREADABLE: Final = frozenset({errno.EIO, errno.EILSEQ, errno.EBADMSG, errno.EUCLEAN})
"""What file systems answer for a sector or a checksum that is bad."""


@dataclass(frozen=True, slots=True, order=True)
class Patch:
    """``size`` bytes at ``offset`` of a file are taken from ``donor_offset`` of another."""

    offset: int
    size: int
    donor_offset: int

    @property
    def end(self) -> int:
        return self.offset + self.size


class PatchedSource:
    """A :class:`~carlib.source.ByteSource` over ``base`` whose ``patches`` (which do not overlap) come from ``donor``.

    Patched ranges of ``base`` are not read, so they may be unreadable.  Closing closes both.
    """

    def __init__(self, base: ByteSource, donor: ByteSource, patches: Sequence[Patch]) -> None:
        self.name = base.name
        self.base = base
        self._donor = donor
        self._patches = sorted(patches)
        self._offsets = [patch.offset for patch in self._patches]

    @property
    def size(self) -> int:
        return self.base.size

    def pread(self, offset: int, length: int) -> bytes:
        return exactly(self.peek(offset, length), length, self.name, offset)

    def peek(self, offset: int, length: int) -> bytes:
        place = bisect_right(self._offsets, offset)
        nearest = self._patches[max(0, place - 1) : place + 1]
        if not any(patch.offset < offset + length and offset < patch.end for patch in nearest):
            return self.base.peek(offset, length)
        parts = []
        for start, stop, patch in self._segments(offset, offset + length):
            if patch is None:
                part = self.base.peek(start, stop - start)
            else:
                part = self._donor.pread(patch.donor_offset + start - patch.offset, stop - start)
            parts.append(part)
            if len(part) < stop - start:
                break
        return b"".join(parts)

    def is_patched(self, offset: int, length: int) -> bool:
        """Whether any of these bytes are not the base's own."""
        return any(patch is not None for _, _, patch in self._segments(offset, offset + length))

    def stamp(self) -> Hashable:
        return self.base.stamp(), self._donor.stamp()

    def close(self) -> None:
        self.base.close()
        self._donor.close()

    def _segments(self, offset: int, end: int) -> Iterator[tuple[int, int, Patch | None]]:
        place = max(0, bisect_right(self._offsets, offset) - 1)
        for patch in self._patches[place:]:
            if patch.offset >= end:
                break
            if patch.end <= offset:
                continue
            if offset < patch.offset:
                yield offset, patch.offset, None
                offset = patch.offset
            yield offset, min(end, patch.end), patch
            offset = min(end, patch.end)
        if offset < end:
            yield offset, end, None


@dataclass(slots=True)
class SalvagedSource:
    """A :class:`~carlib.source.ByteSource` that gives zeros where ``base`` gives EIO and the like; ``unreadable`` are
    the offsets of those pages of 4 KiB.  Closing closes ``base``."""

    base: ByteSource
    unreadable: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.base.name

    @name.setter
    def name(self, value: str) -> None:
        self.base.name = value

    @property
    def size(self) -> int:
        return self.base.size

    def pread(self, offset: int, length: int) -> bytes:
        try:
            return self.base.pread(offset, length)
        except OSError as error:
            data = self._by_page(offset, length, error)
        return exactly(data, length, self.name, offset)

    def peek(self, offset: int, length: int) -> bytes:
        try:
            return self.base.peek(offset, length)
        except OSError as error:
            return self._by_page(offset, length, error)

    def stamp(self) -> Hashable:
        return self.base.stamp()

    def close(self) -> None:
        self.base.close()

    def _by_page(self, offset: int, length: int, error: OSError) -> bytes:
        if error.errno not in _UNREADABLE:
            raise error
        end = min(offset + length, self.base.size)
        parts = []
        while offset < end:
            stop = min(end, offset - offset % PAGE + PAGE)
            try:
                parts.append(self.base.peek(offset, stop - offset))
            except OSError as again:
                if again.errno not in _UNREADABLE:
                    raise
                self.unreadable.add(offset - offset % PAGE)
                parts.append(bytes(stop - offset))
            offset = stop
        return b"".join(parts)
