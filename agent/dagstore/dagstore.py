"""The dagstore: what callers may ask of the shards, and what is found out about their data.

Decisions are `lifecycle.py`'s, and what follows from them is `steps.py`'s.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from agent.catalogue import Store
from agent.dagstore import indexers, mounts
from agent.dagstore.access import Access
from agent.dagstore.actors import acting
from agent.dagstore.breaker import Breaker
from agent.dagstore.bulk import Step, in_bulk
from agent.dagstore.collecting import Collected, Collector
from agent.dagstore.events import Hub
from agent.dagstore.failures import STOPPING, ErrorClass, Failure, ShardError
from agent.dagstore.indexer import Indexer, Workers, Working
from agent.dagstore.indices import Indices
from agent.dagstore.inspection import Inspector
from agent.dagstore.inverted.index import InvertedIndex
from agent.dagstore.lifecycle import (
    INDEXED_STATES,
    INDEXING_STATES,
    Acquire,
    Changed,
    Destroy,
    Initialise,
    Life,
    Recover,
    Release,
    Reported,
    ShardState,
)
from agent.dagstore.looking import Looks
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.origins import Origins
from agent.dagstore.records import IndexFacts, ShardRecord, Transition, record_of
from agent.dagstore.registering import Registrar, Registration
from agent.dagstore.remotes import Remotes
from agent.dagstore.restart import Restart
from agent.dagstore.retries import Retries
from agent.dagstore.retrying import Retrying
from agent.dagstore.settings import DagstoreConfig
from agent.dagstore.shards import Shard, Shards, unknown
from agent.dagstore.steps import Steps
from agent.dagstore.traces import Traces
from agent.dagstore.transients import Statistics, Transients
from agent.dagstore.upkeep import Upkeep
from carlib.cid import Cid

logger = logging.getLogger(__name__)

PROGRESS_SHOWN = 256  # of shards that wait for their turn; all that are being indexed are


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
        workers: Working,
        hub: Hub,
        index_directory: Path,
        settings: DagstoreConfig,
        environment: Environment,
        transients: Transients,
        origins: Origins,
        chance: Callable[[], float],
        inverted_directory: Path,
        inverting: Workers,
    ) -> None:
        self._nursery = nursery
        self._store = store
        self._index_directory = index_directory
        self._settings = settings
        self._transients = transients
        self._indexer = Indexer(workers, index_directory, transients, environment, origins)
        self._origins = origins
        self._shards = Shards()
        self._indices = Indices(store, self._shards, index_directory)
        retries = Retries(settings.retry_attempts, settings.retry_max_s)
        self._retrying = Retrying(retries, chance, self._try_again)
        self.traces = Traces(buffer=settings.trace_buffer)
        self.inverted = InvertedIndex(inverted_directory, inverting, self._indices.all, self._index_damaged)
        self._steps = Steps(
            nursery, store, hub, self.traces, self._indexer, self._shards, self._origins, self._retrying.schedule,
            self._index_changed,
            index_limit=settings.max_concurrent_index, unseal_limit=settings.max_concurrent_unseals,
        )  # fmt: skip
        self._looks = Looks(
            self._steps, store, self._shards, Inspector(index_directory, environment), self._origins,
            # 0 is no limit, and not a limit that nobody passes.
            trio.CapacityLimiter(settings.max_concurrency_storage_calls or math.inf),
            transients, settings.remote_fresh_s,
        )  # fmt: skip
        self._remotes = Remotes(nursery, workers, transients, environment, self._looks.at)
        self._registrar = Registrar(nursery, self._steps, store, self._shards)
        self.upkeep = Upkeep(self._steps, store, self._shards, self._looks, self._remotes)
        self._restart = Restart(
            nursery, store, self._shards, self._steps, self._looks, transients, index_directory, settings
        )
        self._stopping = False
        self.annotate: Callable[[ShardRecord], ShardRecord] = lambda record: record
        """Adds what others know of a shard to its record."""
        self.collector: Collector | None = transients

    # What callers ask for

    async def register(
        self,
        key: str,
        url: str,
        *,
        lazy: bool = False,
        wait: bool = False,
        replicas: Sequence[str] = (),
        existing_transient: str = "",
        indexer: str = indexers.DEFAULT,
    ) -> None:
        """Takes a shard in, as `registering.Registration` says; returns when it is on disk.

        With `wait`, returns when it is Available, or raises what made it Errored (it stays registered then).
        """
        self._refuse_if_stopping()
        registration = Registration(key, url, lazy, replicas, existing_transient, indexer)
        await self._registrar.register(registration, wait=wait)

    async def register_all(self, registrations: Sequence[Registration]) -> list[Failure | None]:
        """Takes many shards in, in few transactions; gives for each, in order, why it was not (None: it was, and is
        on disk)."""
        self._refuse_if_stopping()
        return await self._registrar.register_all(registrations)

    async def initialise(self, key: str) -> None:
        """Indexes a shard that was registered lazily; returns when it is Available, raises what made it Errored."""
        shard = self._shard(key)
        if shard.life.state is not ShardState.NEW:
            raise _unexpected("initialize", shard, ShardState.NEW)
        await self._steps.ask(shard, Initialise)

    @asynccontextmanager
    async def initialise_all(
        self, max_concurrency: int = 0, include_sealed: bool = False
    ) -> AsyncIterator[AsyncIterator[Step]]:
        """Indexes all shards in state New, as `bulk.in_bulk` does it, `max_concurrency` of them side by side (0: no
        limit of this). Shards that must be unsealed first are left out unless `include_sealed`."""
        self._refuse_if_stopping()
        keys = []
        for number, (key, life) in enumerate(self.lives()):
            if life.state is ShardState.NEW and (include_sealed or not self._is_sealed(key)):
                keys.append(key)
            if number % 256 == 255:
                await trio.lowlevel.checkpoint()
        async with in_bulk(keys, self.initialise, limit=max_concurrency) as steps:
            yield steps

    def _is_sealed(self, key: str) -> bool:
        row = self._store.row(key)
        return row is not None and mounts.is_sealed(row.url)

    async def recover(self, key: str) -> None:
        """Indexes an Errored shard again; returns when it is Available, raises what made it Errored again."""
        shard = self._shard(key)
        if shard.life.state not in (ShardState.ERRORED, ShardState.RECOVERING):
            raise _unexpected("recover", shard, ShardState.ERRORED)
        await self._steps.ask(shard, Recover)

    async def acquire(self, key: str) -> ShardRecord:
        """Takes a reference, waiting for an index if need be; the caller owes one `release`.

        The data is looked at first: what changed since it was indexed is not served with the old index. Of data that
        are elsewhere, that is so but for `remote_fresh_s`, and while they cannot be reached what was fetched is served.
        """
        shard = self._shard(key)
        await self._looks.before_use(shard)
        if self._shard(key) is not shard:
            raise unknown(key)
        if shard.life.state is ShardState.ERRORED and self._retrying.may_try(shard):
            with acting("agent: on acquire"):
                self._steps.apply(shard, Recover(None, "somebody needs it"))
        await self._steps.ask(shard, Acquire)
        try:
            access = await self._remotes.access(shard)
            return self._record(shard, access)
        except (ShardError, trio.Cancelled):
            self._steps.apply(shard, Release())
            raise

    async def fetch_range(self, key: str, offset: int, length: int, *, again: bool = False) -> None:
        """See `Remotes.fetch_range`."""
        await self._remotes.fetch_range(self._shard(key), offset, length, again=again)

    async def want_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> None:
        """See `Remotes.want_ranges`."""
        await self._remotes.want_ranges(self._shard(key), ranges)

    async def complete(self, key: str, *, wait: bool = False) -> None:
        """Has all data of a remote shard fetched, in the background unless `wait`; see `Remotes.complete`."""
        shard = self._shard(key)
        if wait:
            await self._remotes.complete(shard)
        else:
            self._remotes.complete_soon(shard)

    def transients(self) -> Statistics:
        """What local copies of remote data take."""
        return self._transients.statistics()

    def unhealthy_origins(self) -> dict[str, Breaker]:
        """The hosts and folders that have failed since they last answered."""
        return self._origins.unhealthy()

    def release(self, key: str) -> None:
        """Gives one reference back."""
        self._steps.apply(self._shards[key], Release())

    def fail(self, key: str, failure: Failure, *, quarantined: str = "") -> None:
        """Takes note that somebody found the data bad: the shard is Errored, and readers keep their references.

        `quarantined` says what exactly is corrupt; a shard so marked is never recovered but by name. Raises ShardError:
        not-found, busy (it is being indexed, which will show it), the catalogue's.
        """
        shard = self._shard(key)
        if shard.life.state not in (*INDEXED_STATES, ShardState.ERRORED):
            raise _unexpected("fail", shard, ShardState.AVAILABLE)
        self._steps.apply(shard, Reported(failure), None, quarantined=quarantined or shard.row.quarantined)

    async def destroy(self, key: str) -> None:
        """Forgets a shard and removes its index; its data is the user's and stays. Refused while it is used."""
        shard = self._shard(key)
        if shard.life.refs:
            message = f"failed to destroy shard {key!r}; active references: {shard.life.refs}"
            raise ShardError(ErrorClass.BUSY, message, key=key)
        index = shard.row.index
        self._steps.apply(shard, Destroy())
        if index is not None:
            with trio.CancelScope(
                shield=True
            ):  # short, and nobody would come back to it before the next start
                await self._indexer.discard(index.name)
        if shard.indexing is not None:
            await shard.indexing.ended.wait()  # not long: its process was killed
        if key not in self._shards:  # else it was registered anew meanwhile
            await self._remotes.discard(key)

    async def lookup(self, cid: Cid, *, but: Collection[str] = ()) -> list[str]:
        """The keys of the shards `but` these that hold the block, in no order; of shards that were indexed a moment ago
        only if no other has it.

        Raises ShardError(busy) if none is known and the inverted index is not complete.
        """
        self._refuse_if_stopping()
        return [] if cid.is_identity else await self.inverted.find(cid.multihash, but=but)

    def record(self, key: str) -> ShardRecord:
        """The full record of a shard; raises ShardError(not-found)."""
        shard = self._shards.get(key)
        if shard is None:
            raise unknown(key)
        return self._record(shard)

    def history(
        self, key: str, *, before: int | None = None, limit: int = 100
    ) -> list[tuple[int, Transition]]:
        """Up to `limit` transitions of a shard with their numbers, newest first; `before` is the number at which the
        page before ended. Raises ShardError(not-found)."""
        if key not in self._shards:
            raise unknown(key)
        return self._store.history_page(key, before=before, limit=limit)

    def find_life(self, key: str) -> Life | None:
        """Where a shard is in its life; None if there is none of that key."""
        shard = self._shards.get(key)
        return None if shard is None else shard.life

    def list_keys(self) -> Sequence[str]:
        """The keys of all shards, sorted; not to be changed."""
        return self._shards.sorted_keys()

    def lives(self) -> list[tuple[str, Life]]:
        """All shards, sorted by key, and where each is in its life."""
        return [(key, self._shards[key].life) for key in self._shards.sorted_keys()]

    def lives_of(self, keys: Iterable[str]) -> list[tuple[str, Life]]:
        """Those of `keys` that there are (still), and where each is in its life."""
        return [(key, self._shards[key].life) for key in keys if key in self._shards]

    def counts(self) -> dict[str, int]:
        """How many shards are in which state; states without shards are left out."""
        counts = Counter(shard.life.state for shard in self._shards.values())
        return dict(sorted((state.value, count) for state, count in counts.items()))

    def indexing(self) -> list[Progress]:
        """The indices that are being made, and the next ones that wait to be."""
        begun = [
            Progress(shard.key, shard.indexing.done_bytes, shard.indexing.total_bytes)
            for shard in self._steps.being_indexed()
            if shard.indexing is not None
        ]
        waiting = itertools.islice(self._steps.waiting_for_index(), PROGRESS_SHOWN)
        return begun + [Progress(shard.key, 0, 0) for shard in waiting]

    def fetching(self) -> list[Progress]:
        """The remote shards whose data is being fetched as a whole."""
        return [
            Progress(key, done, total)
            for key, (done, total) in sorted(self._remotes.completing().items())
            if key in self._shards
        ]

    async def gc(self) -> Sequence[Collected]:
        """Removes all that can be fetched again and that nobody uses (`idle`); what became of each."""
        return () if self.collector is None else await self.collector.gc()

    def idle(self, key: str) -> bool:
        """Whether nobody uses the shard or waits for it, so that what can be fetched or made again may go."""
        shard = self._shards.get(key)
        return shard is None or not (
            shard.life.refs or shard.life.parked or shard.life.state in INDEXING_STATES
        )

    def stop(self) -> None:
        """Refuses new requests and answers all that wait; the work ends with the block of `open_dagstore`."""
        self._stopping = True
        self._steps.waiters.fail_all(STOPPING)
        self.traces.close()

    # Start

    async def start(self) -> None:
        """Takes over what the catalogue holds, as `Restart` does, and begins what goes on by itself."""
        await self._restart.run()
        self._nursery.start_soon(self._retrying.run)
        if self._settings.gc_interval_s:
            self._nursery.start_soon(self._tidy_often)
        self._nursery.start_soon(self.inverted.run)
        logger.info("%d shards: %s", len(self._shards), self.counts() or "none")

    async def _tidy_often(self) -> None:
        """X-5: what is within its limits stays, and what came of it is said."""
        while True:
            await trio.sleep(self._settings.gc_interval_s)
            if self.collector is not None:
                try:
                    freed = await self.collector.tidy()
                except ShardError as error:
                    logger.warning("removing what is over the limits failed: %s", error)
                else:
                    logger.log(logging.INFO if freed else logging.DEBUG, "removed %d bytes", freed)

    async def _try_again(self, shard: Shard, number: int, of: int) -> None:
        await self._looks.again(shard, number, of)

    def _index_changed(self, key: str, facts: IndexFacts | None) -> None:
        if facts is None:
            self.inverted.remove(key)
        else:
            self.inverted.add(self._indices.of(key, facts))

    def _index_damaged(self, key: str, why: str) -> None:
        shard = self._shards.get(key)
        if shard is not None and shard.life.state in INDEXED_STATES:
            self._steps.settle(shard, Changed(why))

    # Common to several of the above

    def _shard(self, key: str) -> Shard:
        self._refuse_if_stopping()
        shard = self._shards.get(key)
        if shard is None:
            raise unknown(key)
        return shard

    def _record(self, shard: Shard, access: Access | None = None) -> ShardRecord:
        """`access`: what was found out by asking; None: what can be told without."""
        history = self._store.history(shard.key)
        record = record_of(shard.row, shard.life, history, self._index_directory, self._transients.access_for)
        return self.annotate(record if access is None else msgspec.structs.replace(record, access=access))

    def _refuse_if_stopping(self) -> None:
        if self._stopping:
            raise ShardError(STOPPING.error_class, STOPPING.message)


def _unexpected(operation: str, shard: Shard, expected: ShardState) -> ShardError:
    """In Lotus' words, which its users and scripts know."""
    message = f"cannot {operation} shard; expected state {expected.value}, was: {shard.life.state.value}"
    return ShardError(ErrorClass.BUSY, message, key=shard.key)
