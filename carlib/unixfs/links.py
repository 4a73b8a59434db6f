"""The entries of one directory that is being built, as columns: 100 bytes an entry and its name, not 300."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import NamedTuple

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
        self._tsizes: array[int] = array("Q")
        self._cids = bytearray()  # one after the other
        self._ends: array[int] = array("Q")  # of each CID
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
            self._add_cid(self._waiting.popleft().raw)

    def settle(self) -> None:
        """Take the CIDs, all of which must have come, and sort by name; ValueError for a name that is there twice."""
        for built in self._waiting:
            self._add_cid(built.cid.raw)
        self._waiting.clear()
        if not all(map(bytes.__lt__, self._names, islice(self._names, 1, None))):
            entries = sorted(self)
            for (name, _, _), (following, _, _) in pairwise(entries):
                if name == following:
                    raise ValueError(f"the name {name!r} is in a directory twice")
            self._replace(entries)

    def _replace(self, entries: list[Entry]) -> None:
        self._names = [entry.name for entry in entries]
        self._tsizes = array("Q", (entry.tsize for entry in entries))
        self._cids, self._ends = bytearray(), array("Q")
        for entry in entries:
            self._add_cid(entry.cid)

    def _add_cid(self, raw: bytes) -> None:
        self._cids += raw
        self._ends.append(len(self._cids))

    def __getitem__(self, index: int) -> Entry:
        start = self._ends[index - 1] if index else 0
        return Entry(self._names[index], bytes(self._cids[start : self._ends[index]]), self._tsizes[index])

    def __iter__(self) -> Iterator[Entry]:
        return map(self.__getitem__, range(len(self)))

    @property
    def names(self) -> list[bytes]:
        return self._names

    @property
    def tsize(self) -> int:
        """Bytes of all blocks below the directory."""
        return sum(self._tsizes)

    def links_bytes(self) -> int:
        """Bytes of all names and CIDs."""
        return sum(map(len, self._names)) + len(self._cids)

    def block_bytes(self) -> int:
        """Bytes of all links in the block of a plain directory."""
        return sum(dagpb.link_size(len(cid), len(name), tsize) for name, cid, tsize in self)
