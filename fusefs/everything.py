"""All shards as one origin of bytes: each block comes from whichever shard has it, and has it whole.

Who has a block is asked of the agent, through its inverted index, unless the shards that gave the last ones have this
one too. Shards that can be read are tried before others, those on this machine first; one that fails is said in the
log, and the next is tried.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

from carlib import unixfs
from carlib.blockstore import Blocks
from carlib.cid import Cid
from carlib.spanning import RangeBlocks, SpanningBlocks
from fusefs.catalogue import Catalogue
from fusefs.errors import FaultLog, MountError, StaleNode
from fusefs.nearby import Nearby
from fusefs.origin import Opened
from fusefs.remote import foreseen
from fusefs.resident import NotResident
from fusefs.shard import Shard
from fusefs.shards import Shards
from fusefs.waits import Waits

_FOLDERS_KEPT: Final = 64


class Everything:
    """The origin; there is one in a mount of an agent."""

    key = ""
    mtime_ns = 0

    def __init__(self, shards: Shards, catalogue: Catalogue, waits: Waits) -> None:
        self._shards = shards
        self._catalogue = catalogue
        self._faults = FaultLog()
        self.waits = waits
        self.lane = waits.data.lane()
        self.names_lane = waits.names.lane()
        spanning = partial(SpanningBlocks, gone=(StaleNode,), failures=(MountError,), failed=self._failed)
        blocks = spanning(_Stores(shards, catalogue))
        here = spanning(_StoresHere(shards, catalogue), recent=blocks.recent)
        self._opened = _Opened(blocks, here, self._foresee)

    def facts(self) -> Mapping[str, str]:
        return {}

    @contextmanager
    def use(self) -> Iterator[Opened]:
        yield self._opened

    def hold_nowait(self) -> Opened:
        return self._opened

    def drop(self, opened: Opened) -> None:
        pass

    def _failed(self, key: str, cid: Cid, error: Exception) -> None:
        self._faults.report(error, shard=key, path=f"ipfs/{cid}")

    def _foresee(self, cids: Iterable[Cid]) -> None:
        """Tells the shards that gave the last blocks: those of one folder mostly lie together."""
        for key in self._opened.blocks.recent.keys:
            shard = self._shards.get(key)
            opened = None if shard is None else shard.hold_nowait()
            if shard is not None and opened is not None:
                try:
                    opened.foresee(cids)
                finally:
                    shard.drop(opened)


class _Stores:
    """The shards, as `SpanningBlocks` asks for them."""

    def __init__(self, shards: Shards, catalogue: Catalogue) -> None:
        self._shards = shards
        self._catalogue = catalogue

    def find(self, cid: Cid, but: Collection[str] = ()) -> Sequence[str]:
        keys = [key for key in self._catalogue.find(str(cid), but) if self._shards.get(key) is not None]
        return sorted(keys, key=lambda key: _rank(self._shards.get(key)))

    @contextmanager
    def use(self, key: str) -> Iterator[RangeBlocks]:
        with self._shard(key).use() as opened:
            yield opened.blocks

    def _shard(self, key: str) -> Shard:
        shard = self._shards.get(key)
        if shard is None:
            raise StaleNode(f"shard {key} is gone")
        return shard


class _StoresHere(_Stores):
    """Likewise for listings, which never wait for a server: of remote shards, what was fetched of those that are open.

    NotResident for the rest, even if yet another shard has the block: `find` gives those on this machine first."""

    @contextmanager
    def use(self, key: str) -> Iterator[RangeBlocks]:
        shard = self._shard(key)
        if shard.record.readable and not shard.record.remote:
            with super().use(key) as blocks:
                yield blocks
            return
        opened = shard.hold_nowait()
        if opened is None:
            raise NotResident
        try:
            if opened.here is None:
                raise NotResident
            yield opened.here
        finally:
            shard.drop(opened)


def _rank(shard: Shard | None) -> int:
    """Which to try first: what can be read here and now, then what may have to be fetched, then what may become
    readable, then what has failed."""
    if shard is None or shard.record.errored:
        return 3
    if not shard.record.readable:
        return 2
    return 1 if shard.record.remote else 0


class _Opened:
    """Nothing of its own is open: the shards are, while they are read."""

    resident: Blocks | None = None

    def __init__(
        self, blocks: SpanningBlocks, here: Blocks, foresee: Callable[[Iterable[Cid]], None]
    ) -> None:
        self.blocks = blocks
        self.here = here
        self._foresee = foresee
        self._lock = threading.Lock()
        self._folders: OrderedDict[Cid, unixfs.Directory] = OrderedDict()

    def folder(self, cid: Cid) -> unixfs.Directory:
        with self._lock:
            found = self._folders.get(cid)
            if found is not None:
                self._folders.move_to_end(cid)
                return found
        opened = unixfs.Directory.open(self.blocks, cid)
        with self._lock:
            self._folders[cid] = opened
            while len(self._folders) > _FOLDERS_KEPT:
                self._folders.popitem(last=False)
        return opened

    def folder_nowait(self, cid: Cid) -> unixfs.Directory | None:
        return self._folders.get(cid)

    def peek(self, offset: int, size: int) -> bytes | None:
        return None

    def foreseen(self, entries: Iterator[unixfs.Entry]) -> Iterator[unixfs.Entry]:
        return foreseen(entries, self._foresee)

    def nearby(self) -> Nearby | None:
        return None
