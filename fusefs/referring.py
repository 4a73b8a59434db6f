"""Blocks of an import by reference: inner nodes are in its CAR, leaves in the user's own files, whose bytes are hashed
each time that they are read from there.

Nothing says reliably that a file is as it was (a program that has it mapped changes it without a trace), so what was
verified is only kept as the bytes themselves: a few leaves, of which somebody reads parts.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from carlib import varint
from carlib.blockstore import Location, ReadOnlyBlockstore
from carlib.cid import RAW, Cid
from carlib.errors import BlockNotFound
from carlib.limits import MIB
from carlib.references import ReferenceBlockstore
from carlib.references.table import ReferenceTable

_KEPT_BYTES: Final = 4 * MIB
NOWHERE: Final = -1
"""The offset of what lies in no place of the CAR."""


class ReferringBlocks(ReadOnlyBlockstore):
    """A `ReadOnlyBlockstore` that has the referenced blocks, too."""

    behind: ReferenceBlockstore

    @classmethod
    def at(cls, path: Path, folder: Path, index: Path | None) -> Self:
        """The CAR at `path`, whose references are below `folder`; raises CarError, OSError."""
        behind = ReferenceBlockstore.open(path, folder, index=index)
        inside = behind.store
        blocks = cls(inside.source, inside.container, inside.index)
        blocks.behind = behind
        blocks._kept = OrderedDict()
        blocks._kept_lock = threading.Lock()
        return blocks

    _kept: OrderedDict[bytes, bytes]
    _kept_lock: threading.Lock

    def get(self, cid: Cid) -> bytes:
        return self.behind.get(cid)

    def read(self, cid: Cid, start: int, stop: int) -> bytes:
        if cid.is_identity or self.behind.store.has(cid):
            return self.behind.store.read(cid, start, stop)
        data = self._kept.get(cid.multihash)
        if data is None:
            data = self.behind.get(cid)
            self._keep(cid.multihash, data)
        return data[start:stop]

    def has(self, cid: Cid) -> bool:
        return self.behind.has(cid)

    def size(self, cid: Cid) -> int:
        location = self.locate(cid)
        if location is None:
            raise BlockNotFound(cid, source=self.source.name)
        return location.size

    def locate(self, cid: Cid) -> Location | None:
        found = self.behind.store.locate(cid)
        if found is None and (reference := self.behind.references.find(cid)) is not None:
            return Location(-1, NOWHERE, NOWHERE, reference.size)
        return found

    def cids(self, *, end: int | None = None, zero_is_end: bool = True) -> Iterator[tuple[Cid, Location]]:
        """What is in the CAR, and then what is referenced."""
        yield from self.behind.store.cids(end=end, zero_is_end=zero_is_end)
        table = self.behind.references
        if isinstance(table, ReferenceTable):
            for entry in table.index:
                reference = table.record(entry.offset)
                if reference is not None:
                    digest = varint.encode(entry.hash_code or 0) + varint.encode(len(entry.digest))
                    yield Cid.v1(RAW, digest + entry.digest), Location(-1, NOWHERE, NOWHERE, reference.size)
            return
        from carlib.references.records import leaves  # and numpy, for Lotus' alone

        for cid in leaves(self.behind):
            found = self.locate(cid)
            if found is not None:
                yield cid, found

    def close(self) -> None:
        self.behind.close()

    def _keep(self, multihash: bytes, data: bytes) -> None:
        with self._kept_lock:
            self._kept[multihash] = data
            while sum(map(len, self._kept.values())) > _KEPT_BYTES and len(self._kept) > 1:
                self._kept.popitem(last=False)
