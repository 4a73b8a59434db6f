"""Blocks by CID from whatever here has them, for threads: found as they are asked for, verified, leased in use."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.export.holders import Holders
from agent.local.shelf import Shelf, open_shelf
from carlib.blockstore import Blocks
from carlib.cid import Cid
from carlib.errors import BlockNotFound, CarError

logger = logging.getLogger(__name__)

T = TypeVar("T")
MOST_OF_ONE_BLOCK = 8  # stores that are tried for it


@dataclass(eq=False, slots=True)
class Session:
    """:class:`~carlib.blockstore.Blocks` for one answer; its calls block and are made in threads of trio's."""

    _local: LocalBlocks
    _stack: AsyncExitStack
    names: list[str]
    _stores: tuple[tuple[str, Blocks], ...]  # that which gave the last block in front; replaced whole
    gave: set[str] = field(default_factory=set)

    def get(self, cid: Cid) -> bytes:
        return cid.digest if cid.is_identity else self._first(cid, lambda store: store.get(cid))

    def has(self, cid: Cid) -> bool:
        try:
            self.size(cid)
        except (CarError, OSError, ShardError):
            return False
        return True

    def size(self, cid: Cid) -> int:
        return len(cid.digest) if cid.is_identity else self._first(cid, lambda store: store.size(cid))

    def _first(self, cid: Cid, ask: Callable[[Blocks], T]) -> T:
        error: Exception | None = None
        tried: set[str] = set()
        while True:
            for name, store in self._stores:
                if name in tried:
                    continue
                tried.add(name)
                try:
                    found = ask(store)
                except BlockNotFound:
                    continue
                except (CarError, OSError, ShardError) as failure:
                    logger.warning("%s of %s: %s", cid, name, failure)
                    self._local.drop(name)
                    error = error or failure
                    continue
                self.gave.add(name)
                if name != self._stores[0][0]:
                    own = (name, store)
                    self._stores = (own, *(other for other in self._stores if other[0] != name))
                return found
            if not trio.from_thread.run(self._more, cid):
                raise error or BlockNotFound(cid)

    async def _more(self, cid: Cid) -> bool:
        """Opens what else has the block; whether there was anything."""
        opened = 0
        for name in await self._local.quickly(cid):
            if name not in self.names and await self._take(name):
                opened += 1
                if opened == MOST_OF_ONE_BLOCK or await self._local.has(self._stores[0][1], cid):
                    return True
        if opened:
            return True
        for name in self._local.unindexed():
            if name not in self.names and await self._local.is_in(name, cid):
                return await self._take(name)
        return False

    async def _take(self, name: str) -> bool:
        """Opens a store for this session; False if that cannot be."""
        self.names.append(name)
        try:
            store = await self._stack.enter_async_context(self._local.shelf.use(name))
        except ShardError as error:
            logger.info("%s cannot be read: %s", name, error)
            return False
        self._stores = ((name, store), *self._stores)
        return True


def _has(store: Blocks, cid: Cid) -> bool:
    try:
        return store.has(cid)
    except (CarError, OSError, ShardError):
        return False


class LocalBlocks:
    """All that is here; get one from `open_local_blocks`."""

    def __init__(
        self, holders: Holders, shelf: Shelf, limiter: trio.CapacityLimiter, opening: trio.CapacityLimiter
    ) -> None:
        """`limiter` is for who reads from a session, `opening` for what that waits for in its turn."""
        self._holders = holders
        self.shelf = shelf
        self.limiter = limiter
        self.opening = opening

    @asynccontextmanager
    async def session(self, *, warm: int = 0) -> AsyncIterator[Session]:
        """Blocks, for the time of the block: what was found stays open until its end.

        For what is short: so many stores, open from the answers before, are asked before anybody looks up who has a
        block; whoever asks for one block of a DAG asks for the next.
        """
        async with AsyncExitStack() as stack:
            stores = self.shelf.borrow(warm, stack)
            session = Session(self, stack, [name for name, _ in stores], tuple(stores))
            try:
                yield session
            finally:
                for name in session.gave:
                    self.shelf.used(name)

    async def quickly(self, cid: Cid) -> list[str]:
        """Names of stores that have the block, as far as indices over all say so."""
        return await self._holders.quickly(cid)

    def unindexed(self) -> list[str]:
        """Names of stores that have to be asked one by one."""
        return self._holders.unindexed()

    async def has(self, store: Blocks, cid: Cid) -> bool:
        return await trio.to_thread.run_sync(_has, store, cid, limiter=self.opening)

    async def is_in(self, name: str, cid: Cid) -> bool:
        """Whether a store can be opened, and has the block."""
        try:
            async with self.shelf.use(name) as store:
                return await self.has(store, cid)
        except ShardError:
            return False

    def drop(self, name: str) -> None:
        """Called from a thread."""
        trio.from_thread.run_sync(self.shelf.drop, name)


@asynccontextmanager
async def open_local_blocks(holders: Holders, *, readers: int) -> AsyncIterator[LocalBlocks]:
    """For the time of the block; `readers` threads at most read and hash."""
    opening = trio.CapacityLimiter(readers)

    async def open_(name: str, stack: AsyncExitStack) -> Blocks:
        params, fetch = await holders.open_one(name, stack)
        opened = ExitStack()

        def close() -> None:
            opened.close()

        def open_store() -> Blocks:
            from agent.export import stores  # numpy, for who reads

            return stores.opened(params, fetch, opened)

        try:
            blocks = await trio.to_thread.run_sync(open_store, limiter=opening)
        except (CarError, OSError) as error:
            opened.close()
            raise ShardError(ErrorClass.CORRUPT, f"{name}: {error}") from error
        stack.callback(close)
        return blocks

    async with open_shelf(open_) as shelf:
        yield LocalBlocks(holders, shelf, trio.CapacityLimiter(readers), opening)
