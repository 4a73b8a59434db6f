"""All shards as one origin of bytes: each block comes from whichever shard has it, and has it whole.

Who has a block is asked of the agent, through its inverted index, unless the shards that gave the last ones have this
one too. Shards that can be read are tried before others; one that fails is said in the log, and the next is tried.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from carlib import unixfs
from carlib.blockstore import Blocks
from carlib.cid import Cid
from carlib.spanning import RangeBlocks, SpanningBlocks
from fusefs.catalogue import Catalogue
from fusefs.errors import FaultLog, MountError, StaleNode
from fusefs.nearby import Nearby
from fusefs.origin import Opened
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
        self._opened = _Opened(
            SpanningBlocks(self._Stores(self), gone=(StaleNode,), failures=(MountError,), failed=self._failed)
        )

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

    class _Stores:
        """The shards, as `SpanningBlocks` asks for them."""

        def __init__(self, everything: Everything) -> None:
            self._shards = everything._shards
            self._catalogue = everything._catalogue

        def find(self, cid: Cid) -> Sequence[str]:
            keys = [key for key in self._catalogue.find(str(cid)) if self._shards.get(key) is not None]
            return sorted(keys, key=lambda key: _rank(self._shards.get(key)))

        @contextmanager
        def use(self, key: str) -> Iterator[RangeBlocks]:
            shard = self._shards.get(key)
            if shard is None:
                raise StaleNode(f"shard {key} is gone")
            with shard.use() as opened:
                yield opened.blocks


def _rank(shard: Shard | None) -> int:
    """Which to try first: what can be read here and now, then what may become readable, then what has failed."""
    if shard is None or shard.record.errored:
        return 2
    return 0 if shard.record.readable else 1


class _Opened:
    """Nothing of its own is open: the shards are, while they are read."""

    resident: Blocks | None = None

    def __init__(self, blocks: SpanningBlocks) -> None:
        self.blocks = blocks
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

    def nearby(self) -> Nearby | None:
        return None
