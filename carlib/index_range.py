"""The entries of an index whose sections begin in a range of the data, in the order of the data.

An index is sorted by digest, so a range is one pass over all of it; that takes a second where the index has 25 million
entries.  Meant for a worker process, since numpy sorts.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import repeat

import numpy as np
import numpy.typing as npt

from carlib.index import OFFSET_BYTES, Bucket, Index

Known = tuple[int, int, bytes]
"""Offset in the payload, hash code (-1 where the index does not keep it), digest."""
Rows = npt.NDArray[np.uint8]


class IndexRange:
    """Entries of ``index`` at payload offsets from ``start`` up to ``stop``; memory grows with their number."""

    def __init__(self, index: Index, start: int, stop: int) -> None:
        """Raises CarError where the index cannot be read, OSError."""
        self.start = start
        self.stop = stop
        self._parts = [_Part(bucket, _within(index, bucket, start, stop)) for bucket in index.buckets]

    def __len__(self) -> int:
        return sum(len(part.offsets) for part in self._parts)

    def __iter__(self) -> Iterator[Known]:
        """All of them, by offset."""
        return heapq.merge(*(part.known(0, len(part.offsets)) for part in self._parts))

    def after(self, offset: int) -> int | None:
        """The first offset in the range that is greater; None where there is none."""
        places = ((part, bisect_right(part.offsets, offset)) for part in self._parts)
        behind = [int(part.offsets[place]) for part, place in places if place < len(part.offsets)]
        return min(behind, default=None)

    def before(self, offset: int) -> int | None:
        """The last offset in the range that is not greater; None where there is none."""
        places = ((part, bisect_right(part.offsets, offset)) for part in self._parts)
        return max((int(part.offsets[place - 1]) for part, place in places if place), default=None)

    def at(self, offset: int) -> list[Known]:
        """What the index says of one offset; several entries where it contradicts itself."""
        return [
            known
            for part in self._parts
            for known in part.known(bisect_left(part.offsets, offset), bisect_right(part.offsets, offset))
        ]


class _Part:
    """Entries of one bucket, sorted by offset."""

    def __init__(self, bucket: Bucket, rows: Rows) -> None:
        self.offsets = _offsets(rows)
        self._bucket = bucket
        self._rows = rows

    def known(self, first: int, last: int) -> Iterator[Known]:
        bucket, digests = self._bucket, self._rows[first:last].tobytes()
        code = -1 if bucket.hash_code is None else bucket.hash_code
        cut = (digests[at : at + bucket.digest_bytes] for at in range(0, len(digests), bucket.width))
        return zip(self.offsets[first:last].tolist(), repeat(code), cut, strict=False)


def next_offset(index: Index, offset: int) -> int | None:
    """The first payload offset behind ``offset`` at which ``index`` knows a section; one pass over all of it."""
    least: int | None = None
    for bucket in index.buckets:
        for _, piece in index.pieces(bucket):
            offsets = _offsets(_rows(piece, bucket))
            behind = offsets[offsets > offset]
            if len(behind):
                least = int(behind.min()) if least is None else min(least, int(behind.min()))
    return least


def _within(index: Index, bucket: Bucket, start: int, stop: int) -> Rows:
    """The bucket's entries in the range, sorted by offset."""
    found = [np.empty((0, bucket.width), np.uint8)]
    for _, piece in index.pieces(bucket):
        rows = _rows(piece, bucket)
        offsets = _offsets(rows)
        found.append(rows[(offsets >= start) & (offsets < stop)])
    rows = np.concatenate(found)
    return rows[np.argsort(_offsets(rows), kind="stable")]


def _rows(piece: bytes, bucket: Bucket) -> Rows:
    return np.frombuffer(piece, np.uint8).reshape(-1, bucket.width)


def _offsets(rows: Rows) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(rows[:, -OFFSET_BYTES:]).view("<u8").reshape(-1)
