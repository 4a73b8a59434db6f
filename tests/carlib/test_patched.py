"""Patched and salvaged sources give what a file with those bytes would give."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib.errors import Truncated
from carlib.patched import PAGE, Patch, PatchedSource, SalvagedSource
from carlib.source import MemorySource

BASE = bytes(range(100))
DONOR = bytes(200 + n for n in range(50))


class BadDisk(MemorySource):
    """A source of which some ranges answer EIO."""

    def __init__(self, data: bytes, *bad: tuple[int, int], code: int = errno.EIO) -> None:
        super().__init__(data)
        self._bad, self._code = bad, code

    def peek(self, offset: int, length: int) -> bytes:
        if any(offset < stop and start < offset + length for start, stop in self._bad):
            raise OSError(self._code, "bad sector")
        return super().peek(offset, length)

    def pread(self, offset: int, length: int) -> bytes:
        self.peek(offset, length)
        return super().pread(offset, length)


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(1, 20)), max_size=5),
    st.integers(0, 110),
    st.integers(0, 60),
)
def test_any_read_is_that_of_the_patched_file(
    ranges: list[tuple[int, int]], offset: int, length: int
) -> None:
    whole, patches, end = bytearray(BASE), [], 0
    for start, size in sorted(ranges):
        if start >= end and start + size <= len(BASE):
            patches.append(Patch(start, size, size))
            whole[start : start + size] = DONOR[size : 2 * size]
            end = start + size
    source = PatchedSource(MemorySource(BASE), MemorySource(DONOR), patches)
    assert source.peek(offset, length) == bytes(whole)[offset : offset + length]
    touched = any(patch.offset < offset + length and offset < patch.end for patch in patches)
    assert source.is_patched(offset, length) == touched


def test_what_is_patched_need_not_be_readable() -> None:
    base = BadDisk(BASE, (10, 20))
    source = PatchedSource(base, MemorySource(DONOR), [Patch(10, 10, 0)])
    assert source.pread(5, 20) == BASE[5:10] + DONOR[:10] + BASE[20:25]
    with pytest.raises(Truncated):
        source.pread(95, 10)


def test_unreadable_pages_are_zeros_and_noted_and_their_neighbours_are_not() -> None:
    data = b"x" * (4 * PAGE)
    source = SalvagedSource(BadDisk(data, (PAGE + 5, PAGE + 6)))
    assert source.pread(100, 3 * PAGE) == data[: PAGE - 100] + bytes(PAGE) + data[: PAGE + 100]
    assert source.unreadable == {PAGE}
    assert source.peek(2 * PAGE, 10 * PAGE) == data[: 2 * PAGE]
    with pytest.raises(Truncated):
        source.pread(0, 5 * PAGE)


def test_other_errors_are_not_for_salvage() -> None:
    with pytest.raises(OSError, match="bad sector"):
        SalvagedSource(BadDisk(BASE, (0, 1), code=errno.ESTALE)).peek(0, 10)
