"""Who holds a block: imports, shards and retrievals, and how a worker reads from them for as long as it takes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

import msgspec
import trio

from agent.dagstore.access import Fetch, RepairedAccess, TransientAccess
from agent.dagstore.dagstore import Dagstore
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.indexer import Workers
from agent.imports.imports import Imports
from agent.imports.records import ImportRow
from agent.imports.transitions import ImportState
from agent.retrievals.retrievals import Retrievals
from agent.scheduler.tasks import DEAL_PRIORITY
from agent.workers import Needs, WorkerFailed
from agent.workers.messages import Params
from carlib.cid import Cid

logger = logging.getLogger(__name__)

_IMPORT = "import "
_SHARD = "shard "
_RETRIEVAL = "retrieval "
MOST_SHARDS = 16  # of those that hold one block, that are opened


@dataclass(slots=True)
class Opened:
    """What a worker may read from. At most one of the stores lacks bytes that `needs` gets."""

    stores: list[Params] = field(default_factory=list)
    needs: Needs | None = None
    size: int = 0  # bytes of the biggest
    error: ShardError | None = None  # the first of those that hold it and cannot be read
    doubtful: bool = False  # an import is among them whose source has changed

    @property
    def names(self) -> list[str]:
        return [store["key"] for store in self.stores]


class Holders:
    """Looks for blocks. Everything raises ShardError."""

    def __init__(
        self, dagstore: Dagstore, imports: Imports, workers: Workers, retrievals: Retrievals | None = None
    ) -> None:
        self._dagstore = dagstore
        self.retrievals = retrievals
        self._imports = imports
        self._workers = workers

    async def imports(self, cid: Cid, *, below: bool = True) -> list[int]:
        """The imports that hold the block, first the best of those whose root it is; others only if `below`."""
        best = self._imports.find_root(cid)
        found = [] if best is None else [best]
        if not below or cid.is_identity:
            return found
        rows = [row for row in self._made() if row.id != best]
        if not rows:
            return found
        stores = [self._import_store(row) for row in rows]
        try:
            given = await self._workers.run(
                "export", {"what": "find", "cid": str(cid), "stores": stores}, subject=f"find {cid}",
                priority=DEAL_PRIORITY,
            )  # fmt: skip
        except WorkerFailed as error:
            raise ShardError(error.error_class, str(error)) from error
        keys = set(given["keys"])
        return found + [row.id for row in rows if _key_of(row) in keys]

    async def shards(self, cid: Cid) -> list[str]:
        """The keys of the shards that hold the block, those whose data is on this machine first."""
        found = sorted(await self._dagstore.lookup(cid))
        return sorted(found, key=lambda key: self._dagstore.record(key).path is None)

    async def open(self, cid: Cid, opened: Opened, stack: AsyncExitStack) -> bool:
        """Adds what holds the block and was not there before, for the time of the stack; whether there was anything."""
        before = len(opened.stores)
        for number in await self.imports(cid, below=False):
            self._open_import(number, opened, stack)
        if not _is_enough(opened, before):
            await self._open_shards(cid, opened, stack)
        if len(opened.stores) == before and self.retrievals is not None:
            retrieved = self.retrievals.find_root(cid, done=True)
            if retrieved is not None:
                self._open_retrieval(f"{_RETRIEVAL}{retrieved}", opened, stack)
        if len(opened.stores) == before:
            for number in await self.imports(cid):
                self._open_import(number, opened, stack)
        return len(opened.stores) > before

    def _open_retrieval(self, name: str, opened: Opened, stack: AsyncExitStack) -> None:
        if self.retrievals is None or name in opened.names:
            return
        number = int(name.removeprefix(_RETRIEVAL))
        record = self.retrievals.acquire(number)
        stack.callback(self.retrievals.release, number)
        opened.stores.append({"key": name, "kind": "car", "car": record.car_path})
        opened.size = max(opened.size, record.data_size)

    async def _open_shards(self, cid: Cid, opened: Opened, stack: AsyncExitStack) -> None:
        try:
            keys = await self.shards(cid)
        except ShardError as error:  # the inverted index is not complete: others may have it
            opened.error = opened.error or error
            return
        for key in keys[:MOST_SHARDS]:
            await self._open_shard(key, opened, stack)

    def _open_import(self, number: int, opened: Opened, stack: AsyncExitStack) -> None:
        row = self._imports.row(number)
        if _key_of(row) in opened.names:
            return
        try:
            self._imports.acquire(number)
        except ShardError as error:
            opened.error = opened.error or error
            return
        stack.callback(self._imports.release, number)
        opened.doubtful = opened.doubtful or row.state is not ImportState.READY
        opened.stores.append(self._import_store(row))
        opened.size = max(opened.size, 0 if row.facts is None else row.facts.size)

    async def _open_shard(self, key: str, opened: Opened, stack: AsyncExitStack) -> None:
        name = f"{_SHARD}{key}"
        if name in opened.names:
            return
        try:
            record = await self._dagstore.acquire(key)
        except ShardError as error:
            opened.error = opened.error or error
            return
        stack.callback(self._dagstore.release, key)
        access, needs = await stack.enter_async_context(self._dagstore.upkeep.reading(key))
        access = record.access or access
        base = access.base if isinstance(access, RepairedAccess) else access
        if isinstance(base, TransientAccess):
            if opened.needs is not None:
                return  # a task asks for what it lacks of one
            opened.needs = needs
        store = {"key": name, "kind": "shard", "index": record.index_path}
        opened.stores.append({**store, "access": msgspec.to_builtins(access)})
        opened.size = max(opened.size, record.size or 0)

    # One at a time, for readers in this process

    async def quickly(self, cid: Cid) -> list[str]:
        """Names of what holds the block, as far as indices over all say so; the best first."""
        if cid.is_identity:
            return []
        best = self._imports.find_root(cid)
        found = [] if best is None else [f"{_IMPORT}{best}"]
        retrieved = None if self.retrievals is None else self.retrievals.find_root(cid, done=True)
        found += [] if retrieved is None else [f"{_RETRIEVAL}{retrieved}"]
        try:
            found += [f"{_SHARD}{key}" for key in await self.shards(cid)]
        except ShardError as error:
            logger.debug("who has %s is not known: %s", cid, error)
        return found

    def unindexed(self) -> list[str]:
        """Names of what no common index covers, newest first."""
        retrieved = [] if self.retrievals is None else self.retrievals.done()
        return [
            *(f"{_RETRIEVAL}{number}" for number in retrieved),
            *(_key_of(row) for row in reversed(self._made())),
        ]

    async def open_one(self, name: str, stack: AsyncExitStack) -> tuple[Params, Fetch]:
        """What a name stands for, leased for the time of the stack, and who gets what is not here of it; ShardError."""
        from agent.export.stores import NOBODY  # numpy, for who reads

        opened = Opened()
        if name.startswith(_IMPORT):
            self._open_import(int(name.removeprefix(_IMPORT)), opened, stack)
        elif name.startswith(_RETRIEVAL):
            self._open_retrieval(name, opened, stack)
        else:
            await self._open_shard(name.removeprefix(_SHARD), opened, stack)
        if opened.error is not None:
            raise opened.error
        fetch: Fetch = _Ranges(self._dagstore, name.removeprefix(_SHARD)) if opened.needs else NOBODY
        return opened.stores[0], fetch

    def _made(self) -> list[ImportRow]:
        rows = []
        for number in self._imports.numbers():
            try:
                row = self._imports.row(number)
            except ShardError as error:
                logger.debug("import %d is passed over: %s", number, error)
                continue
            if row.facts is not None:
                rows.append(row)
        return rows

    def _import_store(self, row: ImportRow) -> Params:
        return {**self._imports.tasks.described(row), "key": _key_of(row)}


class _Ranges:
    """Gets what a transient lacks, for threads of trio's."""

    def __init__(self, dagstore: Dagstore, key: str) -> None:
        self._dagstore = dagstore
        self._key = key

    def ensure(self, offset: int, length: int) -> None:
        trio.from_thread.run(self._dagstore.fetch_range, self._key, offset, length)

    def renew(self, offset: int, length: int) -> None:
        again = partial(self._dagstore.fetch_range, again=True)
        trio.from_thread.run(again, self._key, offset, length)

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        trio.from_thread.run(self._dagstore.want_ranges, self._key, ranges)


def _key_of(row: ImportRow) -> str:
    return f"{_IMPORT}{row.id}"


def _is_enough(opened: Opened, before: int) -> bool:
    """An import of that root that is there as a whole needs no shards beside it; what is missing is asked for."""
    return len(opened.stores) > before and opened.error is None and not opened.doubtful


def nobody_has(cid: Cid, root: Cid) -> ShardError:
    """For a block that no import and no shard holds."""
    if cid == root:
        hint = "import it (carfs client import), or register a shard that has it"
        return ShardError(ErrorClass.NOT_FOUND, f"no import and no shard here holds {root}; {hint}")
    return ShardError(
        ErrorClass.NOT_FOUND, f"block {cid}, which is below {root}, is in no import and no shard here"
    )
