"""Steps of shards' lives: the one place where an event is applied, made durable and carried out.

Between two awaits everything here is atomic, and the catalogue is written before memory changes: what a caller was
told, and what an event stream said, is on disk.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import trio

from agent.catalogue import Store
from agent.dagstore import index_files, mounts
from agent.dagstore.actors import acting, actor
from agent.dagstore.events import Hub
from agent.dagstore.failures import Failure, ShardError
from agent.dagstore.indexer import Indexer, Indexing
from agent.dagstore.lifecycle import (
    TRANSITIONS,
    Acquire,
    Answer,
    CalledOff,
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
    ScheduleRetry,
    ShardState,
    StartIndexing,
    Waiter,
    Withdraw,
    is_forsaken,
    step,
)
from agent.dagstore.origins import Origins
from agent.dagstore.queue import IndexQueue
from agent.dagstore.records import IndexFacts, ShardRow, Transition, now_text, shared, source_url
from agent.dagstore.shards import Shard
from agent.dagstore.traces import Traces
from agent.dagstore.waiters import Waiters
from agent.scheduler.tasks import DEAL_PRIORITY

logger = logging.getLogger(__name__)

_LOG_LEVELS = dict.fromkeys(("Failed", "Changed", "Reported", "LastCopy"), logging.WARNING) | {
    "Restarted": logging.INFO
}


@dataclass(frozen=True, slots=True)
class Move:
    """One event for one shard; `row` is for a shard that the catalogue does not have yet, and `changes` are further
    fields of its row that change with this."""

    shard: Shard
    event: Event
    index: IndexFacts | None = None
    row: ShardRow | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)  # Any: as the field is
    by: str = ""  # "": whoever acts now


@dataclass(frozen=True, slots=True)
class Planned:
    """What becomes of a Move."""

    shard: Shard
    life: Life
    effects: tuple[Effect, ...]
    put: tuple[ShardRow, Transition] | None
    old_index: str | None  # file that nobody needs any more
    new_index: IndexFacts | None  # the index that it has afterwards, if that is another than before


class Steps:
    """Applies events to shards; `shards` are those that exist, and lose the ones that are destroyed."""

    def __init__(
        self,
        nursery: trio.Nursery,
        store: Store,
        hub: Hub,
        traces: Traces,
        indexer: Indexer,
        shards: dict[str, Shard],
        origins: Origins,
        on_failure: Callable[[Shard, int, Failure], None],
        index_changed: Callable[[str, IndexFacts | None], None],
        *,
        index_limit: int,
        unseal_limit: int,
    ) -> None:
        """`index_changed` is told the key of each shard that has another index than before, or none any more."""
        self.waiters = Waiters()
        self._index_changed = index_changed
        self._nursery = nursery
        self._store = store
        self._hub = hub
        self._traces = traces
        self._indexer = indexer
        self._shards = shards
        self._origins = origins
        self._on_failure = on_failure
        self._running: dict[Shard, None] = {}  # a set that keeps order
        self._usual = IndexQueue(index_limit, self._begin)
        self._sealed = IndexQueue(unseal_limit, self._begin)  # apart, since unsealing takes hours

    def being_indexed(self) -> list[Shard]:
        """The shards whose index is being made."""
        return list(self._running)

    def waiting_for_index(self) -> Iterator[Shard]:
        """The shards whose index is to be made and has not been begun."""
        return itertools.chain(self._usual.waiting(), self._sealed.waiting())

    async def ask(self, shard: Shard, event: type[Acquire | Initialise | Recover]) -> None:
        """Applies the event in the name of whoever calls, and waits for the answer; raises it if it is a failure."""
        waiter = self.waiters.add()
        try:
            self.apply(shard, event(waiter))
        except BaseException:
            self.waiters.forget(waiter)
            raise
        self._queue_of(shard).hurry(shard)
        if shard.indexing is not None:
            self._indexer.hurry(shard.key)
        await self.wait(shard, waiter)

    async def wait(self, shard: Shard, waiter: Waiter) -> None:
        """Waits for the answer; raises it if it is a failure. A cancelled waiter gives back what it took."""
        pending = self.waiters[waiter]
        try:
            await pending.answered.wait()
        except trio.Cancelled:
            if pending.granted:
                self.apply(shard, Release())
            else:
                self._withdraw(shard, waiter)
            raise
        finally:
            self.waiters.forget(waiter)
        if pending.failure is not None:
            self.apply(shard, Withdraw(waiter))  # the shard has not answered if the agent stops
            raise ShardError(pending.failure.error_class, pending.failure.message, key=shard.key)

    def _withdraw(self, shard: Shard, waiter: Waiter) -> None:
        """D-14: what nobody waits for any more is not begun."""
        self.apply(shard, Withdraw(waiter))
        if shard.waits_for_index() and is_forsaken(shard.life):
            self.settle(shard, CalledOff())

    def apply(self, shard: Shard, event: Event, index: IndexFacts | None = None, **changes: str) -> None:
        """Applies the event; if the catalogue cannot be written, raises ShardError and nothing has changed."""
        self.apply_all([Move(shard, event, index, changes=changes)])

    def apply_all(self, moves: Sequence[Move]) -> None:
        """Likewise for events for as many different shards, in one transaction: all or none."""
        planned = self.plan(moves)
        self._make_durable(planned)
        self.carry_out(planned)

    def plan(self, moves: Sequence[Move]) -> list[Planned]:
        """What would become of them; raises IllegalEvent. Nothing has changed yet."""
        return [self._plan(move) for move in moves]

    def carry_out(self, planned: Sequence[Planned]) -> None:
        """What was planned, and is on disk now, comes true; no step of these shards may have come between."""
        for one in planned:
            if one.old_index is not None:
                self._nursery.start_soon(self._indexer.discard, one.old_index)
            if one.old_index is not None or one.new_index is not None:
                self._index_changed(one.shard.key, one.new_index)
            if one.effects or one.life != one.shard.life:
                self._move(one.shard, one.life, one.effects, None if one.put is None else one.put[1])

    def settle(self, shard: Shard, event: Event, index: IndexFacts | None = None, **changes: str) -> None:
        """Likewise for what nobody asked for: if the catalogue cannot be written, the shard is Errored in memory."""
        try:
            self.apply(shard, event, index, **changes)
        except ShardError as error:
            logger.error("shard %s: %s; it is out of use until it is recovered", shard.key, error)
            if (shard.life.state, Failed) in TRANSITIONS:
                self._move(shard, *step(shard.life, Failed(shard.life.generation, error.failure)))

    def note(self, shard: Shard, row: ShardRow, event: str, reason: str) -> None:
        """Writes `row`, and a line of history of something that leaves the shard in its state; raises ShardError."""
        state = row.state.value
        line = Transition(now_text(), state, state, event, reason, actor())
        self._store.put(row, line)
        _log(shard.key, line)
        self._traces.tell(shard.key, line, row.error_class or "")
        self._hub.publish(shard.key)

    def _plan(self, move: Move) -> Planned:
        life, effects = step(move.shard.life, move.event)
        put, old_index, new_index = None, None, None
        for effect in effects:
            match effect:
                case Persist(before, after, event, reason):
                    row = move.row or move.shard.row
                    drop = isinstance(move.event, Changed)
                    changed = _row_after(row, life, move.index, move.changes, drop_index=drop)
                    line = Transition(
                        now_text(), before.value, after.value, event, reason, move.by or actor()
                    )
                    put = (changed, line)
                    if changed.index != row.index:
                        old_index = None if row.index is None else row.index.name
                        new_index = changed.index
        return Planned(move.shard, life, effects, put, old_index, new_index)

    def _make_durable(self, planned: Sequence[Planned]) -> None:
        puts = [one.put for one in planned if one.put is not None]
        if len(puts) == 1:
            self._store.put(*puts[0])
        elif puts:
            self._store.put_all(puts)
        for one in planned:
            if any(isinstance(effect, Forget) for effect in one.effects):
                self._store.delete(one.shard.key)

    def _move(
        self, shard: Shard, life: Life, effects: tuple[Effect, ...], line: Transition | None = None
    ) -> None:
        shard.life = shared(life)
        if line is not None:
            _log(shard.key, line)
            failure = life.failure
            self._traces.tell(shard.key, line, failure.error_class.value if failure is not None else "")
        for effect in effects:
            self._carry_out(shard, effect)
        self._hub.publish(shard.key)

    def _carry_out(self, shard: Shard, effect: Effect) -> None:
        match effect:
            case StartIndexing(generation):
                self._queue_of(shard).add(shard, generation, urgent=bool(shard.life.parked))
            case CancelIndexing():
                if shard.indexing is not None:
                    shard.indexing.scope.cancel()
            case ScheduleRetry(attempt, failure):
                self._on_failure(shard, attempt, failure)
            case Forget():
                logger.debug("shard %s: destroyed", shard.key)
                del self._shards[shard.key]
                self._index_changed(shard.key, None)
            case Grant(waiter):
                self.waiters.grant(waiter)
            case Answer(waiter, failure):
                self.waiters.answer(waiter, failure)

    def _queue_of(self, shard: Shard) -> IndexQueue:
        try:
            return self._sealed if mounts.is_sealed(shard.row.url) else self._usual
        except ShardError:  # making the index will say why
            return self._usual

    def _begin(self, queue: IndexQueue, shard: Shard, generation: int) -> None:
        shard.indexing = Indexing(generation, self._index_name(shard, generation))
        self._running[shard] = None
        self._nursery.start_soon(self._index, queue, shard, shard.indexing)

    def _index_name(self, shard: Shard, generation: int) -> str:
        try:
            return index_files.file_name(shard.key, generation, shard.row.registered)
        except ShardError:  # making the index will say why
            return index_files.file_name(shard.key, generation)

    async def _index(self, queue: IndexQueue, shard: Shard, indexing: Indexing) -> None:
        """Has an index made; whatever comes of it ends in one event for the shard."""
        try:
            with acting("agent: indexing"):
                outcome = await self._outcome(shard, indexing)
                made = self._settled(shard, indexing, outcome)
                if not made:
                    await self._indexer.discard(indexing.name)
        finally:
            indexing.ended.set()
            if shard.indexing in (None, indexing):
                self._running.pop(shard, None)
            queue.ended()

    async def _outcome(self, shard: Shard, indexing: Indexing) -> IndexFacts | Failure | None:
        """The index, why there is none, or None if it was cancelled."""
        try:
            row = shard.row
            url = source_url(row)
            make = partial(
                self._indexer.outcome,
                shard.key,
                url,
                indexing,
                replicas=row.replicas,
                indexer=row.indexer,
                priority=DEAL_PRIORITY if shard.life.parked else 0,
            )
            if mounts.parse(url).path is None:  # each fetch is a visit of its own
                return await make()
            with self._origins.visited(url) as visit:
                outcome = await make()
                visit.came_out(outcome if isinstance(outcome, Failure) else None)
                return outcome
        except ShardError as error:
            return error.failure

    def _settled(self, shard: Shard, indexing: Indexing, outcome: IndexFacts | Failure | None) -> bool:
        """Tells the shard how its index came out; whether the index is the shard's now."""
        if shard.indexing is not indexing or outcome is None:
            return False
        shard.indexing = None
        if isinstance(outcome, Failure):
            self.settle(shard, Failed(indexing.generation, outcome))
            return False
        self.settle(shard, Indexed(indexing.generation), outcome)
        return shard.life.failure is None and shard.life.generation == indexing.generation


def _log(key: str, line: Transition) -> None:
    level = _LOG_LEVELS.get(line.event, logging.DEBUG)
    if logger.isEnabledFor(level):
        before, after = ShardState(line.before).name, ShardState(line.after).name
        logger.log(level, "shard %s: %s -> %s: %s", key, before, after, line.reason or line.event)


def _row_after(
    row: ShardRow,
    life: Life,
    index: IndexFacts | None,
    changes: Mapping[str, Any],  # Any: as in Move
    *,
    drop_index: bool,
) -> ShardRow:
    state = ShardState.AVAILABLE if life.state is ShardState.SERVING else life.state
    usual: dict[str, Any] = {
        "state": state,
        "generation": life.generation,
        "error": life.failure.message if life.failure is not None else "",
        "error_class": life.failure.error_class if life.failure is not None else None,
        "index": None if drop_index else index or row.index,
        "attempts": life.attempts,
        "quarantined": row.quarantined if state is ShardState.ERRORED else "",
    }
    return msgspec.structs.replace(row, **usual | dict(changes))
