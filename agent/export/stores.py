"""The stores that a worker exports from, as `holders` describes them, and all of them as one."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec

from agent.dagstore.access import Access, Fetch, open_source
from agent.dagstore.failures import ShardError
from agent.imports.records import Kind
from agent.workers.messages import Params
from carlib.blockstore import Blocks, ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.container import read_container
from carlib.errors import BlockNotFound, CarError
from carlib.index import Index
from carlib.references import ReferenceBlockstore
from carlib.source import FileSource


class JoinedBlocks:
    """:class:`~carlib.blockstore.Blocks` of several stores: what one has not, or not whole, the next one gives."""

    def __init__(self, stores: Sequence[Blocks]) -> None:
        self._stores = tuple(stores)  # that which gave the last block in front; replaced whole, for threads

    def get(self, cid: Cid) -> bytes:
        return cid.digest if cid.is_identity else self._first(cid, lambda store: store.get(cid))

    def has(self, cid: Cid) -> bool:
        return cid.is_identity or any(store.has(cid) for store in self._stores)

    def size(self, cid: Cid) -> int:
        return len(cid.digest) if cid.is_identity else self._first(cid, lambda store: store.size(cid))

    def _first(self, cid: Cid, ask: Callable[[Blocks], Any]) -> Any:  # Any: what `ask` gives
        error: Exception | None = None
        stores = self._stores
        for store in stores:
            try:
                found = ask(store)
            except BlockNotFound:
                continue
            except (CarError, OSError, ShardError) as failure:
                error = error or failure
                continue
            if store is not stores[0]:
                self._stores = (store, *(other for other in stores if other is not store))
            return found
        raise error or BlockNotFound(cid)


class OneAtATime:
    """A `Fetch` for several threads over one for a single thread."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()

    def ensure(self, offset: int, length: int) -> None:
        with self._lock:
            self._fetch.ensure(offset, length)

    def renew(self, offset: int, length: int) -> None:
        with self._lock:
            self._fetch.renew(offset, length)

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        with self._lock:
            self._fetch.hint(ranges)


def opened(store: Params, fetch: Fetch, stack: ExitStack) -> Blocks:
    if store["kind"] == "shard":
        access: Access = msgspec.convert(store["access"], Access)
        source = stack.enter_context(closing(open_source(access, fetch)))
        index = stack.enter_context(closing(FileSource(Path(store["index"]))))
        return ReadOnlyBlockstore(source, read_container(source), Index.open(index))
    index_path = Path(store["index"]) if store.get("index") else None
    if store["kind"] == Kind.REF:
        return stack.enter_context(
            ReferenceBlockstore.open(Path(store["car"]), Path(store["folder"]), index=index_path)
        )
    return stack.enter_context(ReadOnlyBlockstore.open(Path(store["car"]), index=index_path))


class _Nobody:
    """Gets nothing: whether a block is there is in the index."""

    def ensure(self, offset: int, length: int) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def renew(self, offset: int, length: int) -> None:
        self.ensure(offset, length)

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        pass


NOBODY = _Nobody()
