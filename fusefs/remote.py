"""Blocks of a shard whose data is no file of its own: in a sector, or in a transient that fills as it is read.

A block that does not match, or a section that is not where the index says, has its bytes fetched once more before it
is called corrupt: the copy on this machine may be bad where the data is good.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Self, TypeVar

from agent.dagstore.access import Access, Fetch, RemoteSource, open_source
from agent.dagstore.ahead import WINDOW_BYTES, ForeseeingSource
from carlib import unixfs
from carlib.blockstore import Location, ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.container import Container, read_container
from carlib.errors import CarError
from carlib.index import Index
from carlib.section import HEAD_BYTES, Sections
from carlib.source import ByteSource, FileSource

logger = logging.getLogger(__name__)

_AT_ONCE = 64

T = TypeVar("T")

_MOST_RENEWED = 4096


class RemoteBlocks(ReadOnlyBlockstore):
    """A `ReadOnlyBlockstore` that asks for bad bytes once more."""

    _renewed: frozenset[bytes] = frozenset()

    @classmethod
    def at(cls, access: Access, index: Path, fetch: Fetch) -> Self:
        """The blocks behind `access` with a detached index; raises CarError, OSError, what `fetch` raises."""
        source = open_source(access, fetch)
        owned: list[ByteSource] = []
        try:
            owned.append(FileSource(index))
            container = _container(source)
            return cls(source, container, Index.open(owned[0]), owned=tuple(owned))
        except BaseException:
            for each in (source, *owned):
                each.close()
            raise

    def get(self, cid: Cid) -> bytes:
        return self._twice(cid, super().get, cid)

    def read(self, cid: Cid, start: int, stop: int) -> bytes:
        return self._twice(cid, super().read, cid, start, stop)

    def size(self, cid: Cid) -> int:
        return self._twice(cid, super().size, cid)

    def locate(self, cid: Cid) -> Location | None:
        location = self._twice(cid, super().locate, cid)
        if location is None and self._renew(cid):
            location = super().locate(cid)
        return location

    def cids(self, *, end: int | None = None, zero_is_end: bool = True) -> Iterator[tuple[Cid, Location]]:
        container, source = self.container, self.source
        stop = container.data_end if end is None else min(end, container.data_end)
        if isinstance(source, RemoteSource):
            source = ForeseeingSource(source)
        sections = Sections(
            source, container.first_section, stop, zero_is_end=zero_is_end, window_bytes=WINDOW_BYTES
        )
        for cid, offset, data_offset, size in sections:
            yield Cid(cid), Location(-1, offset, data_offset, size)

    def foresee(self, cids: Iterable[Cid]) -> None:
        """Says that these blocks will be looked at soon: where they begin, and small ones as a whole."""
        if isinstance(self.source, RemoteSource):
            base = self.container.data_offset
            places = (
                base + offset for cid in cids for _, offset in self.index.find(cid.hash_code, cid.digest)
            )
            self.source.hint([(start, HEAD_BYTES) for start in places])

    def _twice(self, cid: Cid, read: Callable[..., T], *arguments: object) -> T:
        try:
            return read(*arguments)
        except CarError:
            if not self._renew(cid):
                raise
        return read(*arguments)

    def _renew(self, cid: Cid) -> bool:
        """Has the bytes of the block fetched once more; False if that was done before or would be no use."""
        source = self.source
        if not isinstance(source, RemoteSource) or cid.is_identity or cid.multihash in self._renewed:
            return False
        kept = self._renewed if len(self._renewed) < _MOST_RENEWED else frozenset()
        self._renewed = kept | {cid.multihash}
        starts = [
            self.container.data_offset + offset for _, offset in self.index.find(cid.hash_code, cid.digest)
        ]
        if not starts:
            return False
        try:
            location = super().locate(cid)
        except CarError:
            location = None
        for start in starts:
            end = start + HEAD_BYTES
            if location is not None and location.section_offset == start:
                end = location.data_offset + location.size
            logger.info("block %s at %d of %s is fetched once more", cid, start, source.name)
            source.renew(start, end - start)
        return True


def _container(source: ByteSource) -> Container:
    """What the CAR says of itself; headers that cannot be read are fetched once more. Raises CarError, OSError."""
    try:
        return read_container(source, whole=False)
    except CarError as error:
        if not isinstance(source, RemoteSource):
            raise
        for offset in {0, error.offset or 0}:
            source.renew(offset, 1)
    return read_container(source, whole=False)


def foreseen(entries: Iterator[unixfs.Entry], foresee: Callable[[list[Cid]], None]) -> Iterator[unixfs.Entry]:
    """The same entries, a few dozen at a time, after `foresee` was told of their blocks."""
    while some := list(islice(entries, _AT_ONCE)):
        foresee([entry.cid for entry in some])
        yield from some
