"""The dagstore: what callers may ask of the shards, and what is found out about their data.

Decisions are `lifecycle.py`'s, and what follows from them is `steps.py`'s.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from agent.catalogue import Store
from agent.dagstore import index_files, mounts
from agent.dagstore.events import Hub
from agent.dagstore.failures import ErrorClass, Failure, ShardError
from agent.dagstore.indexer import Indexer, Workers
from agent.dagstore.inspection import Inspector
from agent.dagstore.inverted import InvertedIndex, ShardIndex
from agent.dagstore.lifecycle import (
    INDEXED_STATES,
    Acquire,
    Changed,
    Destroy,
    Event,
    Failed,
    Initialise,
    Life,
    Recover,
    Release,
    Restarted,
    Returned,
    ShardState,
)
from agent.dagstore.records import (
    IndexFacts,
    ShardRecord,
    ShardRow,
    Transition,
    check_key,
    life_of,
    now_text,
    record_of,
)
from agent.dagstore.steps import Shard, Steps
from carlib.cid import Cid

logger = logging.getLogger(__name__)

LOOKS_AT_ONCE = 8  # at the start, when every shard is looked at

# By itself: a disk is mounted, a mode changed.
_MAY_COME_BACK = frozenset({ErrorClass.GONE, ErrorClass.DENIED})

STOPPING = Failure(ErrorClass.BUSY, "the agent is stopping")


class Progress(msgspec.Struct, frozen=True, rename="pascal"):
    """How far an index is."""

    key: str
    done: int
    total: int


class Dagstore:
    """All shards; get one from `open_dagstore`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        store: Store,
        workers: Workers,
        hub: Hub,
        index_directory: Path,
        inverted_directory: Path,
        inverting: Workers,
    ) -> None:
        self._nursery = nursery
        self._store = store
        self._hub = hub
        self._index_directory = index_directory
        self._indexer = Indexer(workers, index_directory)
        self._inspector = Inspector(index_directory)
        self._shards: dict[str, Shard] = {}
        self.inverted = InvertedIndex(inverted_directory, inverting, self._indices, self._index_damaged)
        self._steps = Steps(nursery, store, hub, self._indexer, self._shards, self._index_changed)
        self._stopping = False

    # What callers ask for

    async def register(self, key: str, url: str, *, lazy: bool = False, wait: bool = False) -> None:
        """Takes a shard in; it is on disk before the first await. `url` may be an absolute path.

        With `wait`, returns when it is Available, or raises what made it Errored (it stays registered then).
        """
        self._refuse_if_stopping()
        check_key(key)
        if key in self._shards:
            raise ShardError(ErrorClass.EXISTS, f"a shard with the key {key!r} exists already", key=key)
        mount = mounts.resolve(url)
        row = ShardRow(key, mount.url, ShardState.NEW, lazy, now_text())
        shard = self._shards[key] = Shard(row, Life())
        waiter = self._steps.waiters.add() if wait and not lazy else None
        try:
            if lazy:
                self._store.put(row, Transition(row.registered, "", ShardState.NEW.value, "Register", "lazy"))
            else:
                self._steps.apply(shard, Initialise(waiter))
        except ShardError:
            del self._shards[key]
            if waiter is not None:
                self._steps.waiters.forget(waiter)
            raise
        self._hub.publish(key)
        if waiter is not None:
            await self._steps.wait(shard, waiter)

    async def initialise(self, key: str) -> None:
        """Indexes a shard that was registered lazily; returns when it is Available, raises what made it Errored."""
        shard = self._shard(key)
        if shard.life.state is not ShardState.NEW:
            raise _unexpected("initialize", shard, ShardState.NEW)
        await self._steps.ask(shard, Initialise)

    async def recover(self, key: str) -> None:
        """Indexes an Errored shard again; returns when it is Available, raises what made it Errored again."""
        shard = self._shard(key)
        if shard.life.state not in (ShardState.ERRORED, ShardState.RECOVERING):
            raise _unexpected("recover", shard, ShardState.ERRORED)
        await self._steps.ask(shard, Recover)

    async def acquire(self, key: str) -> ShardRecord:
        """Takes a reference, waiting for an index if need be; the caller owes one `release`.

        The data is looked at first: what changed since it was indexed is not served with the old index.
        """
        shard = self._shard(key)
        await self._look_at(shard)
        if self._shard(key) is not shard:
            raise _unknown(key)
        await self._steps.ask(shard, Acquire)
        try:
            return self._record(shard)
        except ShardError:
            self._steps.apply(shard, Release())
            raise

    def release(self, key: str) -> None:
        """Gives one reference back."""
        self._steps.apply(self._shards[key], Release())

    async def destroy(self, key: str) -> None:
        """Forgets a shard and removes its index; its data is the user's and stays. Refused while it is used."""
        shard = self._shard(key)
        if shard.life.refs:
            message = f"failed to destroy shard {key!r}; active references: {shard.life.refs}"
            raise ShardError(ErrorClass.BUSY, message, key=key)
        self._steps.apply(shard, Destroy())
        if shard.row.index is not None:
            with trio.CancelScope(
                shield=True
            ):  # short, and nobody would come back to it before the next start
                await self._indexer.discard(shard.row.index.name)
        if shard.indexing is not None:
            await shard.indexing.ended.wait()  # not long: its process was killed

    async def lookup(self, cid: Cid) -> list[str]:
        """The keys of the shards that hold the block, in no order; of shards that were indexed a moment ago only if
        no other has it.

        Raises ShardError(busy) if none is known and the inverted index is not complete.
        """
        self._refuse_if_stopping()
        return [] if cid.is_identity else await self.inverted.find(cid.multihash)

    def record(self, key: str) -> ShardRecord:
        """The full record of a shard; raises ShardError(not-found)."""
        shard = self._shards.get(key)
        if shard is None:
            raise _unknown(key)
        return self._record(shard)

    def list_keys(self) -> list[str]:
        """The keys of all shards, sorted."""
        return sorted(self._shards)

    def lives(self) -> list[tuple[str, Life]]:
        """All shards, sorted by key, and where each is in its life."""
        return [(key, shard.life) for key, shard in sorted(self._shards.items())]

    def lives_of(self, keys: Iterable[str]) -> list[tuple[str, Life]]:
        """Those of `keys` that there are (still), and where each is in its life."""
        return [(key, self._shards[key].life) for key in keys if key in self._shards]

    def counts(self) -> dict[str, int]:
        """How many shards are in which state; states without shards are left out."""
        return dict(sorted(Counter(shard.life.state.value for shard in self._shards.values()).items()))

    def indexing(self) -> list[Progress]:
        """The indices that are being made or wait to be."""
        return [
            Progress(key, shard.indexing.done_bytes, shard.indexing.total_bytes)
            for key, shard in self._shards.items()
            if shard.indexing is not None
        ]

    def stop(self) -> None:
        """Refuses new requests and answers all that wait; the work ends with the block of `open_dagstore`."""
        self._stopping = True
        self._steps.waiters.fail_all(STOPPING)

    # Start

    async def start(self) -> None:
        """Takes over what the catalogue holds, removes the last run's orphans, begins again what was cut short."""
        rows = self._store.shards()
        wanted = {row.index.name for row in rows if row.index is not None}
        # Before any work begins, since it removes what is being made.
        await trio.to_thread.run_sync(index_files.sweep, self._index_directory, wanted)
        present = index_files.sizes(self._index_directory)
        for row in rows:
            shard = self._shards[row.key] = Shard(row, life_of(row))
            self._steps.settle(shard, Restarted())
            facts = row.index
            if shard.life.state not in INDEXED_STATES:
                continue
            if facts is None or present.get(facts.name) != facts.size:
                self._steps.settle(shard, Changed("its index file is missing or has another size"))
            elif facts.format != index_files.FORMAT:
                self._steps.settle(shard, Changed("its index is of an older version"))
        self._nursery.start_soon(self.inverted.run)
        self._nursery.start_soon(self._look_at_all)
        logger.info("%d shards: %s", len(rows), self.counts() or "none")

    async def _look_at_all(self) -> None:
        """Looks once at each shard."""
        limiter = trio.CapacityLimiter(LOOKS_AT_ONCE)

        async def look(shard: Shard) -> None:
            try:
                await self._look_at(shard)
            except ShardError as error:
                logger.warning("shard %s could not be looked at: %s", shard.row.key, error)
            finally:
                limiter.release_on_behalf_of(shard)

        async with trio.open_nursery() as nursery:
            for shard in list(self._shards.values()):
                await limiter.acquire_on_behalf_of(shard)
                nursery.start_soon(look, shard)

    # Data that changed, went or came back

    async def _look_at(self, shard: Shard) -> None:
        """Looks at the data and the index of a shard that has one, and moves it on if they are not what they were.

        Raises ShardError(busy) if we could not look, which says nothing about the shard.
        """
        life, facts = shard.life, shard.row.index
        if facts is None or not (life.state in INDEXED_STATES or _may_come_back(life)):
            return
        event: Event | None = None
        try:
            difference = await self._inspector.difference(shard.row.url, facts)
            if difference:
                event = Changed(difference)
        except ShardError as error:
            if error.error_class is ErrorClass.BUSY:
                raise
            event = Failed(life.generation, error.failure)
        now = shard.life
        if now.generation != life.generation:
            return  # somebody else has moved it on in the meantime
        if now.state in INDEXED_STATES and event is not None:
            self._steps.settle(shard, event)
        elif _may_come_back(now) and event is None:
            self._steps.settle(shard, Returned(now.generation))

    # The inverted index, which is derived from the indices of all shards

    def _indices(self) -> Iterator[ShardIndex]:
        for key, shard in self._shards.items():
            if shard.row.index is not None:
                yield self._index_of(key, shard.row.index)

    def _index_of(self, key: str, facts: IndexFacts) -> ShardIndex:
        generation, path = index_files.generation_of(facts.name), self._index_directory / facts.name
        return ShardIndex(key, generation, facts.checksum, path, facts.blocks)

    def _index_changed(self, key: str, facts: IndexFacts | None) -> None:
        if facts is None:
            self.inverted.remove(key)
        else:
            self.inverted.add(self._index_of(key, facts))

    def _index_damaged(self, key: str, why: str) -> None:
        shard = self._shards.get(key)
        if shard is not None and shard.life.state in INDEXED_STATES:
            self._steps.settle(shard, Changed(why))

    # Common to several of the above

    def _shard(self, key: str) -> Shard:
        self._refuse_if_stopping()
        shard = self._shards.get(key)
        if shard is None:
            raise _unknown(key)
        return shard

    def _record(self, shard: Shard) -> ShardRecord:
        return record_of(shard.row, shard.life, self._store.history(shard.row.key), self._index_directory)

    def _refuse_if_stopping(self) -> None:
        if self._stopping:
            raise ShardError(STOPPING.error_class, STOPPING.message)


@asynccontextmanager
async def open_dagstore(
    *,
    store: Store,
    workers: Workers,
    hub: Hub,
    index_directory: Path,
    inverted_directory: Path | None = None,
    inverting: Workers | None = None,
) -> AsyncIterator[Dagstore]:
    """The dagstore over what `store` holds, for the time of the block.

    `inverting` works for the inverted index: others than `workers`, since these may all be busy for hours.
    """
    async with trio.open_nursery() as nursery:
        inverted_directory = inverted_directory or index_directory.parent / "inverted"
        dagstore = Dagstore(
            nursery, store, workers, hub, index_directory, inverted_directory, inverting or workers
        )
        await dagstore.start()
        yield dagstore
        dagstore.stop()
        nursery.cancel_scope.cancel()


def _may_come_back(life: Life) -> bool:
    return life.failure is not None and life.failure.error_class in _MAY_COME_BACK


def _unknown(key: str) -> ShardError:
    return ShardError(ErrorClass.NOT_FOUND, f"shard not found: {key!r}", key=key)


def _unexpected(operation: str, shard: Shard, expected: ShardState) -> ShardError:
    """In Lotus' words, which its users and scripts know."""
    message = f"cannot {operation} shard; expected state {expected.value}, was: {shard.life.state.value}"
    return ShardError(ErrorClass.BUSY, message, key=shard.row.key)
