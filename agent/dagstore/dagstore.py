"""The dagstore: feeds what happens to the shards' lives (`lifecycle.py`) and carries out what follows.

Between two awaits everything here is atomic, and the catalogue is written before memory changes: what a caller was
told, and what an event stream said, is on disk.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
import trio

from agent.catalogue import Store
from agent.dagstore import index_files, mounts
from agent.dagstore.events import Hub
from agent.dagstore.failures import ErrorClass, Failure, ShardError
from agent.dagstore.lifecycle import (
    INDEXED_STATES,
    Acquire,
    Answer,
    CancelIndexing,
    Changed,
    Destroy,
    Effect,
    Event,
    Failed,
    Forget,
    Grant,
    Indexed,
    Initialise,
    Life,
    Persist,
    Recover,
    Release,
    Restarted,
    ShardState,
    StartIndexing,
    Waiter,
    Withdraw,
    step,
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
from agent.workers import WorkerFailed

logger = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 30.0  # a mount that does not answer for so long counts as gone
PROBES_AT_ONCE = 8

_LOG_LEVELS = {"Failed": logging.WARNING, "Changed": logging.WARNING, "Restarted": logging.INFO}

STOPPING = Failure(ErrorClass.BUSY, "the agent is stopping")


@dataclass(eq=False, slots=True)
class _Indexing:
    """The making of one index."""

    generation: int
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    done_bytes: int = 0
    total_bytes: int = 0


@dataclass(eq=False, slots=True)
class _Shard:
    row: ShardRow
    life: Life
    indexing: _Indexing | None = None


@dataclass(eq=False, slots=True)
class _Pending:
    """A waiter's answer, once there is one."""

    answered: trio.Event = field(default_factory=trio.Event)
    granted: bool = False
    failure: Failure | None = None


class Workers(Protocol):
    """What indexes for us: `agent.workers.WorkerPool`."""

    async def run(
        self, kind: str, params: dict[str, Any], progress: Callable[[int, int], None] | None = None
    ) -> dict[str, Any]:  # Any: JSON, as agent/workers/indexing.py documents it
        """See `WorkerPool.run`."""


class Progress(msgspec.Struct, frozen=True, rename="pascal"):
    """How far an index is."""

    key: str
    done: int
    total: int


class Dagstore:
    """All shards; get one from `open_dagstore`."""

    def __init__(
        self, nursery: trio.Nursery, store: Store, pool: Workers, hub: Hub, index_directory: Path
    ) -> None:
        self._nursery = nursery
        self._store = store
        self._pool = pool
        self._hub = hub
        self._index_directory = index_directory
        self._shards: dict[str, _Shard] = {}
        self._pending: dict[Waiter, _Pending] = {}
        self._waiter_numbers = itertools.count(1)
        self._probe_limiter = trio.CapacityLimiter(PROBES_AT_ONCE)
        self._stopping = False

    # What callers ask for

    async def register(
        self, key: str, url: str, *, directory: Path, lazy: bool = False, wait: bool = False
    ) -> None:
        """Takes a shard in; it is on disk before the first await. `url` may be a path, relative to `directory`.

        With `wait`, returns when it is Available, or raises what made it Errored (it stays registered then)."""
        self._refuse_if_stopping()
        check_key(key)
        if key in self._shards:
            raise ShardError(ErrorClass.EXISTS, f"a shard with the key {key!r} exists already", key=key)
        mount = mounts.resolve(url, directory=directory)
        row = ShardRow(key, mount.url, ShardState.NEW, lazy, now_text())
        shard = self._shards[key] = _Shard(row, Life())
        waiter = self._new_waiter() if wait and not lazy else None
        try:
            if lazy:
                self._store.put(row, Transition(row.registered, "", ShardState.NEW.value, "Register", "lazy"))
            else:
                self._apply(shard, Initialise(waiter))
        except ShardError:
            del self._shards[key]
            raise
        self._hub.publish(key)
        if waiter is not None:
            await self._wait(shard, waiter)

    async def initialise(self, key: str) -> None:
        """Indexes a shard that was registered lazily; returns when it is Available, raises what made it Errored."""
        shard = self._shard(key)
        if shard.life.state is not ShardState.NEW:
            raise _unexpected("initialize", shard, ShardState.NEW)
        await self._ask(shard, Initialise)

    async def recover(self, key: str) -> None:
        """Tries an Errored shard again; returns when it is Available, raises what made it Errored again."""
        shard = self._shard(key)
        if shard.life.state not in (ShardState.ERRORED, ShardState.RECOVERING):
            raise _unexpected("recover", shard, ShardState.ERRORED)
        await self._ask(shard, Recover)

    async def acquire(self, key: str) -> ShardRecord:
        """Takes a reference, waiting for an index if need be; the caller owes one `release`.

        The data is looked at first: what changed since it was indexed is not served with the old index."""
        shard = self._shard(key)
        if shard.life.state in INDEXED_STATES:
            await self._check(shard)
            if self._shards.get(key) is not shard:
                raise _unknown(key)
            self._refuse_if_stopping()
        await self._ask(shard, Acquire)
        return self._record(shard)

    def release(self, key: str) -> None:
        """Gives one reference back."""
        self._apply(self._shards[key], Release())

    async def destroy(self, key: str) -> None:
        """Forgets a shard and removes its index; its data is the user's and stays. Refused while it is used."""
        shard = self._shard(key)
        if shard.life.refs:
            message = f"failed to destroy shard {key!r}; active references: {shard.life.refs}"
            raise ShardError(ErrorClass.BUSY, message, key=key)
        self._apply(shard, Destroy())
        if shard.row.index is not None:
            await self._discard(shard.row.index.name)
        if shard.indexing is not None:
            await shard.indexing.ended.wait()  # not long: its process was killed

    def record(self, key: str) -> ShardRecord:
        """The full record of a shard; raises ShardError(not-found)."""
        shard = self._shards.get(key)
        if shard is None:
            raise _unknown(key)
        return self._record(shard)

    def list_keys(self) -> list[str]:
        """The keys of all shards, sorted."""
        return sorted(self._shards)

    def rows(self) -> list[tuple[ShardRow, ShardState]]:
        """What the catalogue keeps of all shards, sorted by key, and their state now."""
        return [(shard.row, shard.life.state) for _, shard in sorted(self._shards.items())]

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
        """Refuses new requests and answers all that wait; the index work ends with the block of `open_dagstore`."""
        self._stopping = True
        for pending in self._pending.values():
            if not pending.answered.is_set():
                pending.failure = STOPPING
                pending.answered.set()

    # Start

    async def start(self) -> None:
        """Takes over what the catalogue holds, begins again what was cut short, removes orphans of the last run."""
        rows = self._store.shards()
        wanted = {row.index.name for row in rows if row.index is not None}
        # Before any work begins, since it removes what is being made.
        await trio.to_thread.run_sync(index_files.sweep, self._index_directory, wanted)
        present = index_files.sizes(self._index_directory)
        for row in rows:
            shard = self._shards[row.key] = _Shard(row, life_of(row))
            self._settle(shard, Restarted())
            facts = row.index
            if shard.life.state in INDEXED_STATES and (
                facts is None or present.get(facts.name) != facts.size
            ):
                self._settle(shard, Changed("its index file is missing or has another size"))
        self._nursery.start_soon(self._check_all)
        logger.info("%d shards: %s", len(rows), self.counts() or "none")

    async def _check_all(self) -> None:
        """Looks once at the data of every indexed shard."""
        async with trio.open_nursery() as nursery:
            for shard in list(self._shards.values()):
                if shard.life.state in INDEXED_STATES:
                    await self._probe_limiter.acquire_on_behalf_of(shard)
                    nursery.start_soon(self._check_released, shard)

    async def _check_released(self, shard: _Shard) -> None:
        try:
            await self._check(shard)
        finally:
            self._probe_limiter.release_on_behalf_of(shard)

    # Waiting

    def _new_waiter(self) -> Waiter:
        waiter = Waiter(next(self._waiter_numbers))
        self._pending[waiter] = _Pending()
        return waiter

    async def _ask(self, shard: _Shard, event: type[Acquire | Initialise | Recover]) -> None:
        waiter = self._new_waiter()
        try:
            self._apply(shard, event(waiter))
        except BaseException:
            del self._pending[waiter]
            raise
        await self._wait(shard, waiter)

    async def _wait(self, shard: _Shard, waiter: Waiter) -> None:
        """Waits for the answer; raises it if it is a failure. A cancelled waiter gives back what it took."""
        pending = self._pending[waiter]
        try:
            await pending.answered.wait()
        except trio.Cancelled:
            self._apply(shard, Release() if pending.granted else Withdraw(waiter))
            raise
        finally:
            del self._pending[waiter]
        if pending.failure is not None:
            self._apply(
                shard, Withdraw(waiter)
            )  # of use when the agent stops: the shard has not answered then
            raise ShardError(pending.failure.error_class, pending.failure.message, key=shard.row.key)

    # Steps and their effects

    def _apply(self, shard: _Shard, event: Event, index: IndexFacts | None = None) -> None:
        """Takes the step; if the catalogue cannot be written, raises ShardError and nothing has changed."""
        life, effects = step(shard.life, event)
        if not effects and life == shard.life:
            return
        row = _row_after(shard.row, life, index, drop_index=isinstance(event, Changed))
        previous = shard.row.index
        for effect in effects:
            self._make_durable(row, effect)
        shard.life, shard.row = life, row
        for effect in effects:
            self._carry_out(shard, effect)
        if previous is not None and row.index != previous:
            self._nursery.start_soon(self._discard, previous.name)
        self._hub.publish(row.key)

    def _settle(self, shard: _Shard, event: Event, index: IndexFacts | None = None) -> None:
        """Likewise for what nobody asked for; where the catalogue cannot be written, the shard is Errored instead."""
        try:
            self._apply(shard, event, index)
        except ShardError as error:
            logger.error("shard %s: %s; it is out of use until it is recovered", shard.row.key, error)
            life, effects = step(shard.life, Failed(shard.life.generation, error.failure))
            shard.life = life
            for effect in effects:
                self._carry_out(shard, effect)
            self._hub.publish(shard.row.key)

    def _make_durable(self, row: ShardRow, effect: Effect) -> None:
        match effect:
            case Persist(before, after, event, reason):
                self._store.put(row, Transition(now_text(), before.value, after.value, event, reason))
                level = _LOG_LEVELS.get(event, logging.DEBUG)
                logger.log(level, "shard %s: %s -> %s: %s", row.key, before.name, after.name, reason or event)
            case Forget():
                self._store.delete(row.key)
                logger.debug("shard %s: destroyed", row.key)

    def _carry_out(self, shard: _Shard, effect: Effect) -> None:
        match effect:
            case StartIndexing(generation):
                shard.indexing = _Indexing(generation)
                self._nursery.start_soon(self._index, shard, shard.indexing)
            case CancelIndexing():
                assert shard.indexing is not None
                shard.indexing.scope.cancel()
            case Forget():
                del self._shards[shard.row.key]
            case Grant(waiter):
                self._pending[waiter].granted = True
                self._pending[waiter].answered.set()
            case Answer(waiter, failure):
                self._pending[waiter].failure = failure
                self._pending[waiter].answered.set()

    async def _index(self, shard: _Shard, indexing: _Indexing) -> None:
        """Has a worker make the index; whatever happens ends in one event for the shard."""
        name = index_files.file_name(shard.row.key, indexing.generation)
        facts: IndexFacts | None = None
        outcome: Event | None = None
        with indexing.scope:
            try:
                facts = await self._built(shard, indexing, name)
                outcome = Indexed(indexing.generation)
            except (ShardError, WorkerFailed) as error:
                outcome = Failed(indexing.generation, Failure(error.error_class, str(error)))
            except Exception as error:
                logger.exception("shard %s: indexing failed", shard.row.key)
                failure = Failure(ErrorClass.BUG, f"{type(error).__name__}: {error}")
                outcome = Failed(indexing.generation, failure)
        if shard.indexing is indexing and outcome is not None:
            shard.indexing = None
            self._settle(shard, outcome, facts)
        if shard.row.index is None or shard.row.index.name != name:
            await self._discard(name)
        indexing.ended.set()

    async def _built(self, shard: _Shard, indexing: _Indexing, name: str) -> IndexFacts:
        def report(done: int, total: int) -> None:
            indexing.done_bytes, indexing.total_bytes = done, total

        path = mounts.parse(shard.row.url).path
        if path is None:
            raise ShardError(ErrorClass.INVALID, f"{shard.row.url} has no local file")
        params = {
            "path": str(path),
            "scratch": str(index_files.scratch(self._index_directory, name)),
            "out": str(self._index_directory / name),
        }
        result = await self._pool.run("index", params, report)
        return msgspec.convert(result, IndexFacts)

    # Data that changed

    async def _check(self, shard: _Shard) -> None:
        """Looks at data and index of an indexed shard, and moves it on if they are not what they were."""
        generation, facts = shard.life.generation, shard.row.index
        assert facts is not None
        event = await self._looked_at(shard.row.url, facts, generation)
        is_current = shard.life.generation == generation and shard.life.state in INDEXED_STATES
        if event is not None and is_current:
            self._settle(shard, event)

    async def _looked_at(self, url: str, facts: IndexFacts, generation: int) -> Event | None:
        index_path = self._index_directory / facts.name
        try:
            with trio.fail_after(PROBE_TIMEOUT_S):
                return await trio.to_thread.run_sync(_look, url, facts, index_path, abandon_on_cancel=True)
        except trio.TooSlowError:
            message = f"{url} did not answer in {PROBE_TIMEOUT_S:.0f} s"
            return Failed(generation, Failure(ErrorClass.GONE, message))
        except ShardError as error:
            return Failed(generation, error.failure)

    # Small things

    def _shard(self, key: str) -> _Shard:
        self._refuse_if_stopping()
        shard = self._shards.get(key)
        if shard is None:
            raise _unknown(key)
        return shard

    def _record(self, shard: _Shard) -> ShardRecord:
        return record_of(shard.row, shard.life, self._store.history(shard.row.key), self._index_directory)

    async def _discard(self, name: str) -> None:
        """Removes an index file, in a thread, since a big one takes its time."""
        await trio.to_thread.run_sync(index_files.discard, self._index_directory, name)

    def _refuse_if_stopping(self) -> None:
        if self._stopping:
            raise ShardError(STOPPING.error_class, STOPPING.message)


@asynccontextmanager
async def open_dagstore(
    *, store: Store, pool: Workers, hub: Hub, index_directory: Path
) -> AsyncIterator[Dagstore]:
    """The dagstore over what `store` holds, for the time of the block."""
    async with trio.open_nursery() as nursery:
        dagstore = Dagstore(nursery, store, pool, hub, index_directory)
        await dagstore.start()
        yield dagstore
        dagstore.stop()
        nursery.cancel_scope.cancel()


def _look(url: str, facts: IndexFacts, index_path: Path) -> Changed | None:
    """Compares data and index with what they were; runs in a thread. Raises ShardError."""
    changed = facts.fingerprint.differs_from(mounts.parse(url).probe())
    if changed:
        return Changed(f"the data changed since it was indexed: {changed}")
    try:
        if index_path.stat().st_size == facts.size:
            return None
    except OSError:
        return Changed("its index file is missing")
    return Changed("its index file has another size")


def _row_after(row: ShardRow, life: Life, index: IndexFacts | None, *, drop_index: bool) -> ShardRow:
    state = ShardState.AVAILABLE if life.state is ShardState.SERVING else life.state
    return msgspec.structs.replace(
        row,
        state=state,
        generation=life.generation,
        error=life.failure.message if life.failure is not None else "",
        error_class=life.failure.error_class if life.failure is not None else None,
        index=None if drop_index else index or row.index,
    )


def _unknown(key: str) -> ShardError:
    return ShardError(ErrorClass.NOT_FOUND, f"shard not found: {key!r}", key=key)


def _unexpected(operation: str, shard: _Shard, expected: ShardState) -> ShardError:
    """In Lotus' words, which its users and scripts know."""
    message = f"cannot {operation} shard; expected state {expected.value}, was: {shard.life.state.value}"
    return ShardError(ErrorClass.BUSY, message, key=shard.row.key)
