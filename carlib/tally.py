"""Whether an index lists just what the data hold, told by a few numbers: no list of what they hold, and nothing sorted.

A tally has, for each hash function and digest size, how many entries there are and the sum of their hashes by SipHash
with a key that is drawn for each comparison.  Whoever made the files could not know it, so entries that are not the
same have the same sum by a chance of 2^-64.  What differs a tally cannot say: :mod:`carlib.index_check` finds it.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from carlib.cid import Cid
from carlib.errors import CarError
from carlib.index import INDEX_SORTED, OFFSET_BYTES, Index
from carlib.limits import MIB
from carlib.multihash import IDENTITY, SHA2_256
from carlib.section import Sections, Window
from carlib.source import FileSource
from carlib.usual import DIGEST_BYTES
from carlib.varint import Buffer

MAX_KINDS: Final = 1024
"""Hash functions and digest sizes, together, that are kept apart; data that have more are compared the other way."""
_KEY_BYTES: Final = 16
_AT_ONCE: Final = 4096
"""Rows that stay in a processor's cache between the steps of numpy."""

Sums = dict[tuple[int, int], tuple[int, int]]
"""Count and sum, by hash code and digest size."""


def portable_tally(rows: Buffer, width: int, key: bytes) -> tuple[int, bool]:
    """The sum modulo 2^64 of SipHash-2-4 of each row of ``width`` bytes, and whether each begins with no less than the
    one before it, eight bytes at the end left out."""
    entries = np.frombuffer(rows, np.uint8).reshape(-1, width)
    total = sum(_sum(entries[start : start + _AT_ONCE], key) for start in range(0, len(entries), _AT_ONCE))
    digests = [bytes(row[:-OFFSET_BYTES]) for row in entries] if width > OFFSET_BYTES else []
    return total % (1 << 64), all(one <= other for one, other in pairwise(digests))


def _sum(entries: npt.NDArray[np.uint8], key: bytes) -> int:
    width = entries.shape[1]
    padded = np.zeros((len(entries), width // 8 * 8 + 8), np.uint8)
    padded[:, :width] = entries
    padded[:, -1] = width & 0xFF
    k0, k1 = (np.uint64(int.from_bytes(key[start : start + 8], "little")) for start in (0, 8))
    start = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
    v = [
        np.full(len(entries), np.uint64(one) ^ k, np.uint64)
        for one, k in zip(start, (k0, k1) * 2, strict=True)
    ]
    for word in padded.view("<u8").T:
        v[3] ^= word
        _rounds(v, 2)
        v[0] ^= word
    v[2] ^= np.uint64(0xFF)
    _rounds(v, 4)
    return int((v[0] ^ v[1] ^ v[2] ^ v[3]).sum(dtype=np.uint64))


def _rounds(v: list[npt.NDArray[np.uint64]], count: int) -> None:
    for _ in range(count):
        for one, other, turn in ((0, 1, 13), (2, 3, 16), (0, 3, 21), (2, 1, 17)):
            v[one] += v[other]
            v[other] = _turned(v[other], turn) ^ v[one]
            if turn in {13, 17}:
                v[one] = _turned(v[one], 32)


def _turned(words: npt.NDArray[np.uint64], by: int) -> npt.NDArray[np.uint64]:
    return words << np.uint64(by) | words >> np.uint64(64 - by)


tally: Callable[[Buffer, int, bytes], tuple[int, bool]]
try:
    from carlib._sections import tally
except ImportError:  # not built: no compiler, or a machine that it does not know
    tally = portable_tally


class Tally:
    """Of entries in any order; ``payload`` is where the data of a CAR begin, from which entries count offsets."""

    def __init__(self, key: bytes, payload: int = 0) -> None:
        self.key = key
        self.payload = payload
        self.sums: Sums = {}
        self.is_full = False
        """More than :data:`MAX_KINDS` were added: it says nothing any more."""

    def add(self, hash_code: int, digest_bytes: int, rows: Buffer) -> bool:
        """Entries as they stand in an index; whether they are in its order."""
        width = digest_bytes + OFFSET_BYTES
        total, ascending = tally(rows, width, self.key)
        self._add((hash_code, digest_bytes), len(rows) // width, total)
        return ascending

    def add_window(self, sections: Sections, window: Window) -> None:
        """All sections of ``window``, which are known to be whole."""
        usual_rows, others = sections.entries(window, self.payload)
        for rows in usual_rows:
            self.add(SHA2_256, DIGEST_BYTES, rows)
        unusual: dict[tuple[int, int], list[bytes]] = {}
        for start in others:
            head = sections.head(window.buffer, start, window.offset)
            cid = Cid(bytes(window.buffer[head.cid : head.data]))
            offset = window.offset + start - self.payload
            entry = cid.digest + offset.to_bytes(OFFSET_BYTES, "little")
            unusual.setdefault((cid.hash_code, len(cid.digest)), []).append(entry)
        for (code, size), entries in unusual.items():
            self.add(code, size, b"".join(entries))

    def merge(self, other: Tally) -> None:
        """Add what ``other``, of the same key, was given."""
        self.is_full |= other.is_full
        for kind, (count, total) in other.sums.items():
            self._add(kind, count, total)

    def _add(self, kind: tuple[int, int], count: int, total: int) -> None:
        if count and kind not in self.sums and len(self.sums) >= MAX_KINDS:
            self.is_full = True
        elif count:
            had, sum_ = self.sums.get(kind, (0, 0))
            self.sums[kind] = had + count, (sum_ + total) % (1 << 64)

    def agrees_with(self, codec: int, listed: Sums) -> bool:
        """Whether an index of ``codec`` lists all of this, but for identity CIDs, of which it may list all or none."""
        most = self.sums
        fewest = {kind: each for kind, each in most.items() if kind[0] != IDENTITY}
        return not self.is_full and listed in (_folded(most, codec), _folded(fewest, codec))


def _folded(sums: Sums, codec: int) -> Sums:
    """As an index of ``codec`` keeps them: INDEX_SORTED knows no hash functions."""
    if codec != INDEX_SORTED:
        return sums
    folded = Tally(b"")
    for (_, size), (count, total) in sums.items():
        folded._add((0, size), count, total)
    return folded.sums


class Beside:
    """An index that is tallied in a thread of its own, while its CAR is gone through and ``truth`` filled."""

    def __init__(self, pool: ThreadPoolExecutor, path: Path, start: int, payload: int) -> None:
        """The index at ``start`` of ``path``; use :func:`beside`."""
        self.truth = Tally(secrets.token_bytes(_KEY_BYTES), payload)
        self._stop = threading.Event()
        self._listed: Future[tuple[int, Sums] | None] = pool.submit(self._list, path, start)

    def agrees(self) -> bool:
        """Whether the index lists just what is in ``truth``, in the order of an index; else look closer."""
        listed = self._listed.result()
        return listed is not None and self.truth.agrees_with(*listed)

    def stop(self) -> None:
        """Nobody will ask."""
        self._stop.set()

    def _list(self, path: Path, start: int) -> tuple[int, Sums] | None:
        """None where it is not as we would write it, or cannot be read: then whoever looks closer says why."""
        found = Tally(self.truth.key)
        try:
            with FileSource(path) as source:
                index = Index.open(source, start)
                kinds = [(bucket.hash_code or 0, bucket.digest_bytes) for bucket in index.buckets]
                if not _is_strictly_ascending(kinds) or not all(bucket.count for bucket in index.buckets):
                    return None
                for kind, bucket in zip(kinds, index.buckets, strict=True):
                    before = b""
                    for rows in _pieces(source, bucket.start, bucket.count, bucket.width):
                        first, last = rows[: kind[1]], rows[len(rows) - bucket.width :][: kind[1]]
                        if self._stop.is_set() or not found.add(*kind, rows) or first < before:
                            return None
                        before = last
        except (CarError, OSError):
            return None
        return None if found.is_full else (index.codec, found.sums)


@contextlib.contextmanager
def beside(path: Path, start: int, payload: int) -> Iterator[Beside]:
    """Begins at once, and ends with the block, sooner than done if need be."""
    with ThreadPoolExecutor(1, "carfs-index") as pool:
        running = Beside(pool, path, start, payload)
        try:
            yield running
        finally:
            running.stop()


def _is_strictly_ascending(kinds: list[tuple[int, int]]) -> bool:
    return all(one < other for one, other in pairwise(kinds))


def _pieces(source: FileSource, start: int, count: int, width: int) -> Iterator[bytes]:
    """``count`` rows of ``width`` bytes, in pieces of about a quarter of a MiB."""
    step = max(1, MIB // 4 // width)
    for first in range(0, count, step):
        yield source.pread(start + first * width, min(step, count - first) * width)
