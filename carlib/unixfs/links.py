"""The entries of one directory that is being built, as columns: a directory of 100,000 files takes 15 MB, not 35."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from carlib import dagpb
from carlib.unixfs.hashing import Built

Link = tuple[bytes, Built]
"""A name and what it names."""


class Entry(NamedTuple):
    """One entry: a name, a binary CID, and the bytes of all blocks below and with it."""

    name: bytes
    cid: bytes
    tsize: int


class Links:
    """Entries in the order in which they were added; some may wait for their CIDs until the builder is flushed."""

    def __init__(self, entries: Iterable[Link] = ()) -> None:
        self._names: list[bytes] = []
        self._cids: list[bytes] = []
        self._tsizes: Final = array("Q")
        self._waiting: deque[Built] = deque()
        for name, built in entries:
            self.add(name, built)

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: bytes, built: Built) -> None:
        self._names.append(name)
        self._tsizes.append(built.tsize)
        self._waiting.append(built)
        while self._waiting and self._waiting[0].raw:
            self._cids.append(self._waiting.popleft().raw)

    def settle(self) -> None:
        """Take the CIDs, all of which must have come, and sort by name; ValueError for a name that is there twice."""
        self._cids += (built.cid.raw for built in self._waiting)
        self._waiting.clear()
        order = sorted(range(len(self)), key=self._names.__getitem__)
        if any(place != index for place, index in enumerate(order)):
            self._names = [self._names[index] for index in order]
            self._cids = [self._cids[index] for index in order]
            self._tsizes[:] = array("Q", (self._tsizes[index] for index in order))
        for name, following in pairwise(self._names):
            if name == following:
                raise ValueError(f"the name {name!r} is in a directory twice")

    def __getitem__(self, index: int) -> Entry:
        return Entry(self._names[index], self._cids[index], self._tsizes[index])

    def __iter__(self) -> Iterator[Entry]:
        return map(Entry, self._names, self._cids, self._tsizes)

    @property
    def names(self) -> list[bytes]:
        return self._names

    @property
    def tsize(self) -> int:
        """Bytes of all blocks below the directory."""
        return sum(self._tsizes)

    def links_bytes(self) -> int:
        """Bytes of all names and CIDs."""
        return sum(map(len, self._names)) + sum(map(len, self._cids))

    def block_bytes(self) -> int:
        """Bytes of all links in the block of a plain directory."""
        return sum(
            map(dagpb.link_size, map(len, self._cids), map(len, self._names), self._tsizes),
        )
