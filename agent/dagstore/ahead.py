"""Scanning data of which every byte has to be fetched first: saying in time what will be read.

A CAR of large blocks is hopped over, head by head, and each head would cost a round trip. But blocks of one CAR are
mostly of one size, so the next heads are foreseen from the last ones and fetched side by side; one that was foreseen
wrong costs a chunk. A CAR of small blocks is read through, and what comes is asked for before it is needed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Sequence
from typing import Final

from agent.dagstore.access import RemoteSource
from carlib.limits import KIB, MIB

WINDOW_BYTES: Final = 128 * KIB
"""What is read at once of small blocks: two chunks."""
HEAD_BYTES: Final = 4096
"""What is read of a large one."""
_MOST_HOPS: Final = 64
_FIRST_HOPS: Final = 4
_PAIRS_KEPT: Final = 32
_FORWARD_BYTES: Final = 8 * MIB
_FAR_BYTES: Final = 64 * KIB


class Hops:
    """Where a reader goes next, from where it has been: pure."""

    def __init__(self, size: int) -> None:
        """`size`: of all there is, in bytes."""
        self._size = size
        self._last = self._end = 0  # of the last read
        self._step = 0  # the last one
        self._pairs: deque[tuple[int, int]] = deque(maxlen=_PAIRS_KEPT)  # which step came after which
        self._table: dict[int, int] = {}  # what comes after each, as far as is known
        self._foreseen: set[int] = set()
        self._hops = _FIRST_HOPS  # how far to look; less each time that it was wrong
        self._reads_on = 0  # in a row
        self._forward = 0  # up to where was asked for when reading on

    def visit(self, position: int, length: int) -> list[tuple[int, int]]:
        """What will be wanted after a read of `length` bytes at `position`; nothing that was said before."""
        step, gap = position - self._last, position - self._end
        self._last, self._end = position, position + length
        if -HEAD_BYTES <= gap < _FAR_BYTES:
            self._reads_on += 1
            return self._on(position + length) if self._reads_on > 2 else []
        self._reads_on = 0
        return self._hop(position, step) if step > 0 else []

    def _hop(self, position: int, step: int) -> list[tuple[int, int]]:
        is_as_foreseen = step == self._table.get(self._step)
        self._pairs.append((self._step, step))
        self._step = step
        after = self._table = self._after()
        self._hops = min(_MOST_HOPS, max(1, 2 * self._hops)) if is_as_foreseen else self._hops // 4
        ahead: list[int] = []
        place = position
        while (
            len(ahead) < self._hops and (step := after.get(step, 0)) and (place := place + step) < self._size
        ):
            ahead.append(place)
        new = [place for place in ahead if place not in self._foreseen]
        if len(self._foreseen) > 8 * _MOST_HOPS:
            self._foreseen = set(ahead)
        self._foreseen.update(new)
        return [(place, HEAD_BYTES) for place in new]

    def _after(self) -> dict[int, int]:
        """For each step that was taken of late, the one that came most often after it."""
        counts = Counter(self._pairs)
        return {before: after for (before, after), _ in reversed(counts.most_common())}

    def _on(self, end: int) -> list[tuple[int, int]]:
        """For a reader that reads on."""
        self._forward = max(self._forward, end)
        if self._forward - end > _FORWARD_BYTES // 2 or self._forward >= self._size:
            return []
        start, self._forward = self._forward, min(self._size, end + _FORWARD_BYTES)
        return [(start, self._forward - start)]


class ForeseeingSource:
    """A :class:`~carlib.source.ByteSource` over a remote one that says what it will be read for."""

    def __init__(self, source: RemoteSource) -> None:
        self.name = source.name
        self._source = source
        self._hops = Hops(source.size)

    @property
    def size(self) -> int:
        return self._source.size

    def pread(self, offset: int, length: int) -> bytes:
        return self._source.pread(offset, length)

    def peek(self, offset: int, length: int) -> bytes:
        wanted = self._hops.visit(offset, length)
        if wanted:
            self._source.hint(wanted)
        return self._source.peek(offset, length)

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        self._source.hint(ranges)

    def stamp(self) -> Hashable:
        return self._source.stamp()

    def close(self) -> None:
        self._source.close()
