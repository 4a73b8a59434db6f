"""Steps of shards' lives: the one place where an event is applied, made durable and carried out.

Between two awaits everything here is atomic, and the catalogue is written before memory changes: what a caller was
told, and what an event stream said, is on disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import trio

from agent.catalogue import Store
from agent.dagstore import index_files
from agent.dagstore.events import Hub
from agent.dagstore.failures import Failure, ShardError
from agent.dagstore.indexer import Indexer, Indexing
from agent.dagstore.lifecycle import (
    TRANSITIONS,
    Acquire,
    Answer,
    CancelIndexing,
    Changed,
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
    ShardState,
    StartIndexing,
    Waiter,
    Withdraw,
    step,
)
from agent.dagstore.records import IndexFacts, ShardRow, Transition, now_text
from agent.dagstore.waiters import Waiters

logger = logging.getLogger(__name__)

_LOG_LEVELS = {"Failed": logging.WARNING, "Changed": logging.WARNING, "Restarted": logging.INFO}


@dataclass(eq=False, slots=True)
class Shard:
    """One shard in memory."""

    row: ShardRow  # as it is on disk
    life: Life
    indexing: Indexing | None = None


class Steps:
    """Applies events to shards; `shards` are those that exist, and lose the ones that are destroyed."""

    def __init__(
        self,
        nursery: trio.Nursery,
        store: Store,
        hub: Hub,
        indexer: Indexer,
        shards: dict[str, Shard],
        index_changed: Callable[[str, IndexFacts | None], None] = lambda _key, _facts: None,
    ) -> None:
        """`index_changed` is told the key of each shard that has another index than before, or none any more."""
        self.waiters = Waiters()
        self._index_changed = index_changed
        self._nursery = nursery
        self._store = store
        self._hub = hub
        self._indexer = indexer
        self._shards = shards

    async def ask(self, shard: Shard, event: type[Acquire | Initialise | Recover]) -> None:
        """Applies the event in the name of whoever calls, and waits for the answer; raises it if it is a failure."""
        waiter = self.waiters.add()
        try:
            self.apply(shard, event(waiter))
        except BaseException:
            self.waiters.forget(waiter)
            raise
        await self.wait(shard, waiter)

    async def wait(self, shard: Shard, waiter: Waiter) -> None:
        """Waits for the answer; raises it if it is a failure. A cancelled waiter gives back what it took."""
        pending = self.waiters[waiter]
        try:
            await pending.answered.wait()
        except trio.Cancelled:
            self.apply(shard, Release() if pending.granted else Withdraw(waiter))
            raise
        finally:
            self.waiters.forget(waiter)
        if pending.failure is not None:
            self.apply(shard, Withdraw(waiter))  # the shard has not answered if the agent stops
            raise ShardError(pending.failure.error_class, pending.failure.message, key=shard.row.key)

    def apply(self, shard: Shard, event: Event, index: IndexFacts | None = None) -> None:
        """Applies the event; if the catalogue cannot be written, raises ShardError and nothing has changed."""
        life, effects = step(shard.life, event)
        if not effects and life == shard.life:
            return
        row = _row_after(shard.row, life, index, drop_index=isinstance(event, Changed))
        previous = shard.row.index
        for effect in effects:
            self._make_durable(row, effect)
        shard.row = row
        if row.index != previous:
            self._index_changed(row.key, row.index)
            if previous is not None:
                self._nursery.start_soon(self._indexer.discard, previous.name)
        self._move(shard, life, effects)

    def settle(self, shard: Shard, event: Event, index: IndexFacts | None = None) -> None:
        """Likewise for what nobody asked for: if the catalogue cannot be written, the shard is Errored in memory."""
        try:
            self.apply(shard, event, index)
        except ShardError as error:
            logger.error("shard %s: %s; it is out of use until it is recovered", shard.row.key, error)
            if (shard.life.state, Failed) in TRANSITIONS:
                self._move(shard, *step(shard.life, Failed(shard.life.generation, error.failure)))

    def _move(self, shard: Shard, life: Life, effects: tuple[Effect, ...]) -> None:
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

    def _carry_out(self, shard: Shard, effect: Effect) -> None:
        match effect:
            case StartIndexing(generation):
                shard.indexing = Indexing(generation)
                self._nursery.start_soon(self._index, shard, shard.indexing)
            case CancelIndexing():
                assert shard.indexing is not None
                shard.indexing.scope.cancel()
            case Forget():
                del self._shards[shard.row.key]
                self._index_changed(shard.row.key, None)
            case Grant(waiter):
                self.waiters.grant(waiter)
            case Answer(waiter, failure):
                self.waiters.answer(waiter, failure)

    async def _index(self, shard: Shard, indexing: Indexing) -> None:
        """Has an index made; whatever comes of it ends in one event for the shard."""
        name = index_files.file_name(shard.row.key, indexing.generation)
        try:
            outcome = await self._indexer.outcome(shard.row.key, shard.row.url, indexing)
            if shard.indexing is indexing and outcome is not None:
                shard.indexing = None
                if isinstance(outcome, Failure):
                    self.settle(shard, Failed(indexing.generation, outcome))
                else:
                    self.settle(shard, Indexed(indexing.generation), outcome)
            if shard.row.index is None or shard.row.index.name != name:
                await self._indexer.discard(name)
        finally:
            indexing.ended.set()


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
