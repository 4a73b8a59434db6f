"""The scrubber: verifies shards when they are due or asked for, keeps what it finds, and repairs what it can.

What to look at and what it means is decided in `progress.py`, when in `schedule.py`; here it is carried out. All that
was found is in the catalogue before anything else happens, so a kill costs one slice.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec
import trio

from agent.dagstore import mounts
from agent.dagstore.access import Access, RepairedAccess
from agent.dagstore.events import Hub
from agent.dagstore.failures import ErrorClass, Failure, ShardError
from agent.dagstore.indexer import Workers
from agent.dagstore.lifecycle import INDEXED_STATES, ShardState
from agent.dagstore.records import ShardRow
from agent.dagstore.scrub import progress, repairs, schedule
from agent.dagstore.scrub.progress import Next
from agent.dagstore.scrub.records import (
    Depth,
    Outcome,
    Phase,
    Run,
    ScrubEvent,
    ScrubState,
    SliceResult,
    Verdict,
)
from agent.dagstore.scrub.repairer import Repairer
from agent.dagstore.scrub.schedule import Load, Schedule, ScrubConfig
from agent.dagstore.scrub.standby import Changeable, Standby
from agent.dagstore.scrub.store import ScrubStore
from agent.workers import Needs, WorkerFailed

logger = logging.getLogger(__name__)

SCHEDULED = "schedule"
"""Who asked for a run that nobody asked for."""


class Shards(Protocol):
    """What the scrubber needs of the dagstore."""

    def registered(self) -> Iterable[tuple[str, str]]:
        """All keys, and when each was registered (RFC 3339)."""

    def row(self, key: str) -> ShardRow:
        """Raises ShardError(not-found)."""

    def state(self, key: str) -> ShardState:
        """Raises ShardError(not-found)."""

    def reading(self, key: str) -> AbstractAsyncContextManager[tuple[Access, Needs | None]]:
        """How a worker reads the data, without repairs, for the time of a block; raises ShardError."""

    async def look(self, key: str) -> None:
        """Looks at the data and moves the shard on if it is not what was indexed; raises ShardError(busy)."""

    def distrust_index(self, key: str, index: str, reason: str) -> None:
        """Has the index made anew, if it is still the one of that name."""

    def condemn(self, key: str, index: str, failure: Failure) -> None:
        """Makes the shard Errored, if its index is still the one of that name."""

    def set_quarantined(self, key: str, text: str) -> None:
        """Says in the shard's record what of it cannot be read; empty: nothing."""


class AllShards(Shards, Changeable, Protocol):
    """And what standing in needs of it."""


@dataclass(eq=False, slots=True)
class _Job:
    """A verification that runs now; `log` grows by one for each thing found, `now` is how far it is."""

    key: str
    depth: Depth
    sample: int
    by: str
    now: ScrubEvent
    log: list[ScrubEvent] = field(default_factory=list)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    changed: trio.Event = field(default_factory=trio.Event)
    ended: bool = False
    watchers: int = 0

    def tell(self, event: ScrubEvent) -> None:
        if event.event == "progress":
            self.now = event
        else:
            self.log.append(event)
        self.changed.set()
        self.changed = trio.Event()


class Running(msgspec.Struct, frozen=True, rename="pascal"):
    """One verification under way, for status displays."""

    key: str
    depth: Depth
    by: str
    phase: str
    done: int
    total: int


class ScrubStatistics(msgspec.Struct, frozen=True, rename="pascal"):
    """A snapshot for status displays and for the doctor."""

    scheduled: int  # shards
    overdue: int
    next_at: str | None  # RFC 3339
    running: tuple[Running, ...]


class Scrubber:
    """Get one from `open_scrubber`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        shards: Shards,
        store: ScrubStore,
        workers: Workers,
        load: Callable[[], Load],
        hub: Hub,
        repairer: Repairer,
        index_directory: Path,
        config: ScrubConfig,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._nursery = nursery
        self._shards = shards
        self._store = store
        self._workers = workers
        self._load = load
        self._hub = hub
        self._repairer = repairer
        self._index_directory = index_directory
        self._config = config
        self._clock = clock
        self._chance = chance
        self._schedule = Schedule()
        self._wake = trio.Event()
        self._jobs: dict[str, _Job] = {}

    # What callers ask for

    async def verify(
        self, keys: Sequence[str], *, depth: str, sample: int = 0, by: str = "request"
    ) -> AsyncGenerator[ScrubEvent, None]:
        """Verifies shards one after the other, and says how far it is and what it finds.

        `depth` is a `Depth`. The last event of each key is its `verdict`, or an `error`. A verification of that shard
        that runs already is joined. Leave it early with `aclose`: a run that nobody watches any more stops, and goes on
        from there the next time. Raises ShardError(not-found) for a key that is none, before anything begins.
        """
        wanted = Depth(depth)
        for key in keys:
            self._shards.row(key)
        for key in keys:
            job: _Job | None = None
            while job is None or (job.depth.rank < wanted.rank and job.ended):
                job = self._jobs.get(key) or self._begin(key, wanted, sample, by)
                is_enough = job.depth.rank >= wanted.rank
                async with aclosing(self._watched(job)) as events:
                    async for event in events:
                        if is_enough or event.event not in ("verdict", "error"):
                            yield event

    @asynccontextmanager
    async def verifying(
        self, keys: Sequence[str], *, depth: str, sample: int = 0, by: str = "request"
    ) -> AsyncIterator[AsyncIterator[ScrubEvent]]:
        """`verify` for the time of a block; whoever leaves it early no longer watches."""
        async with aclosing(self.verify(keys, depth=depth, sample=sample, by=by)) as events:
            yield events

    def state(self, key: str) -> ScrubState:
        """What is known of a shard: run, verdict, quarantine, repairs; raises ShardError(not-found)."""
        self._shards.row(key)
        return self._store.scrub(key)

    def readable(self, key: str, access: Access) -> Access:
        """How readers read the data: with the repairs that there are for it."""
        state = self._store.scrub(key)
        index = self._shards.row(key).index
        return self._repaired(access, state, "" if index is None else index.name)

    def statistics(self) -> ScrubStatistics:
        now, at_s = self._clock(), self._schedule.next_at()
        running = tuple(
            Running(job.key, job.depth, job.by, job.now.phase, job.now.done, job.now.total)
            for job in self._jobs.values()
        )
        next_at = None if at_s is None else _text(at_s)
        return ScrubStatistics(len(self._schedule), self._schedule.backlog(now), next_at, running)

    # The schedule

    async def run(self) -> None:
        """Verifies what is due, for ever; returns at once where nothing is ever due."""
        if not self._config.interval_days:
            return
        async with trio.open_nursery() as nursery:
            await nursery.start(self._follow)
            while True:
                await self._wait_due()
                key = self._schedule.pop_due(self._clock())
                if key is not None and key not in self._jobs:
                    await self._verify_due(key)

    async def _follow(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Takes in what is registered, now and later, and drops what is destroyed."""
        is_cut = True
        while is_cut:  # and not closed, with which the agent ends
            is_cut = False

            def cut() -> None:
                nonlocal is_cut
                is_cut = True

            subscription = self._hub.subscribe(cut)
            await self._take_in_all()
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            while keys := await subscription.wait_changed():
                for key in keys:
                    self._take_in(key)

    async def _take_in_all(self) -> None:
        known = dict(self._store.scrubs())
        for number, (key, registered) in enumerate(self._shards.registered(), 1):
            if key not in self._schedule and key not in self._jobs:
                self._put(key, registered, known.get(key) or ScrubState())
            if number % 256 == 0:
                await trio.lowlevel.checkpoint()

    def _take_in(self, key: str) -> None:
        try:
            row = self._shards.row(key)
        except ShardError:
            self._schedule.remove(key)
            return
        if key not in self._schedule and key not in self._jobs:
            self._put(key, row.registered, self._store.scrub(key))

    def _put(self, key: str, registered: str, state: ScrubState) -> None:
        depth = self._depth_of(key)
        if depth is None:
            return
        interval_s = self._config.interval_days * schedule.DAY_S
        if state.run is not None and state.run.by == SCHEDULED:
            at_s = self._clock()  # it was cut short
        else:
            last = state.verified.get(depth.value)
            verified_s = None if last is None else _seconds(last)
            at_s = schedule.due_at(_seconds(registered), verified_s, interval_s, self._chance)
        self._put_at(key, at_s)

    def _put_at(self, key: str, at_s: float) -> None:
        self._schedule.put(key, at_s)
        self._wake.set()
        self._wake = trio.Event()

    async def _wait_due(self) -> None:
        at_s, wake = self._schedule.next_at(), self._wake
        wait_s = float("inf") if at_s is None else max(0.0, at_s - self._clock())
        with trio.move_on_after(wait_s):
            await wake.wait()

    async def _verify_due(self, key: str) -> None:
        depth = self._depth_of(key)
        if depth is None:
            return
        sample = 0 if self._is_local(key) else self._config.remote_sample
        async with aclosing(self._watched(self._begin(key, depth, sample, SCHEDULED))) as events:
            last = [event async for event in events][-1]
        if last.event == "error":
            self._put_at(key, self._clock() + schedule.RETRY_S)
        elif last.verdict is not None and last.verdict.outcome in (Outcome.CHANGED, Outcome.REBUILT):
            self._put_at(key, self._clock() + schedule.BUSY_WAIT_S)  # once it is indexed
        else:
            self._put(key, "", self._store.scrub(key))

    def _depth_of(self, key: str) -> Depth | None:
        """How deep the schedule verifies a shard; None: not at all, as it is gone."""
        try:
            chosen = self._config.depth if self._is_local(key) else self._config.remote_depth
        except ShardError:
            return None
        return None if chosen == "none" else Depth(chosen)

    def _is_local(self, key: str) -> bool:
        return mounts.parse(self._shards.row(key).url).path is not None

    # One run

    def _begin(self, key: str, depth: Depth, sample: int, by: str) -> _Job:
        job = _Job(key, depth, sample, by, ScrubEvent(key, "progress"))
        self._jobs[key] = job
        self._nursery.start_soon(self._carry_out, job)
        return job

    async def _watched(self, job: _Job) -> AsyncGenerator[ScrubEvent, None]:
        seen, job.watchers = 0, job.watchers + 1
        shown: ScrubEvent | None = None
        try:
            while True:
                while seen < len(job.log):
                    seen += 1
                    yield job.log[seen - 1]
                if job.ended:
                    return
                if job.now is not shown:
                    shown = job.now
                    yield shown
                elif seen == len(job.log):
                    await job.changed.wait()
        finally:
            job.watchers -= 1
            if not job.watchers:
                job.scope.cancel()

    async def _carry_out(self, job: _Job) -> None:
        """Runs the job; whatever comes of it is an event."""
        try:
            with job.scope:
                await self._verify(job)
        except (ShardError, WorkerFailed) as error:
            self._tell_failure(job, error.error_class, str(error))
        except Exception as error:
            logger.exception("shard %s: verifying failed", job.key)
            self._tell_failure(job, ErrorClass.BUG, f"{type(error).__name__}: {error}")
        finally:
            del self._jobs[job.key]
            job.ended = True
            job.changed.set()

    def _tell_failure(self, job: _Job, error_class: ErrorClass, message: str) -> None:
        """The run stays as it is, to go on with another time."""
        try:
            state = self._store.scrub(job.key)
            if state.run is not None:
                self._store.put_scrub(job.key, progress.fail(state, message, self._now()))
        except ShardError as error:
            logger.warning("shard %s: %s", job.key, error)
        job.tell(ScrubEvent(job.key, "error", error=message, error_class=error_class.value))

    async def _verify(self, job: _Job) -> None:
        await self._shards.look(job.key)
        row = self._indexed_row(job.key)
        assert row.index is not None
        old = self._store.scrub(job.key)
        state = progress.begin(
            old, run_id=secrets.token_hex(4), depth=job.depth, sample=job.sample, by=job.by,
            index=row.index.name, now=self._now(),
        )  # fmt: skip
        self._keep(job.key, state)
        while state.run is not None and state.run.phase is not Phase.REPAIR:
            await self._wait_for_turn(job)
            started = trio.current_time()
            position = state.run.position
            result = await self._slice(job, row, state, state.run)
            advance = progress.advance(state, result, self._now())
            state = self._taken(job, advance, old.verdict)
            if advance.next is not Next.GO_ON and advance.next is not Next.REPAIR:
                await self._act(job, row, advance)
            elif self._is_in_no_hurry(job) and state.run is not None:
                read = max(0, state.run.position - position)
                await trio.sleep(schedule.pause_after(read, trio.current_time() - started, self._config))
        if state.run is not None:
            await self._finish(job, row, state)

    def _indexed_row(self, key: str) -> ShardRow:
        row, state = self._shards.row(key), self._shards.state(key)
        if state not in INDEXED_STATES or row.index is None:
            message = f"cannot verify shard; expected state {ShardState.AVAILABLE.value}, was: {state.value}"
            raise ShardError(ErrorClass.BUSY, f"{message} {row.error}".rstrip(), key=key)
        return row

    async def _wait_for_turn(self, job: _Job) -> None:
        """What nobody waits for gives way to what somebody waits for."""
        while self._is_in_no_hurry(job) and not schedule.may_run(self._load()):
            await trio.sleep(schedule.BUSY_WAIT_S)

    def _is_in_no_hurry(self, job: _Job) -> bool:
        """Whether the schedule alone wants this."""
        return job.by == SCHEDULED and job.watchers <= 1

    async def _slice(self, job: _Job, row: ShardRow, state: ScrubState, run: Run) -> SliceResult:
        assert row.index is not None
        async with self._shards.reading(job.key) as (access, needs):
            params = {
                "access": msgspec.to_builtins(self._repaired(access, state, row.index.name)),
                "index": str(self._index_directory / row.index.name),
                "fingerprint": msgspec.to_builtins(row.index.fingerprint),
                **progress.task(run, schedule.slice_bytes(self._config)),
            }
            found = await self._workers.run("verify", params, None, needs)
        return msgspec.convert(found, SliceResult)

    def _taken(self, job: _Job, advance: progress.Advance, before: Verdict | None) -> ScrubState:
        """Keeps what a slice has shown, and tells."""
        state = advance.state
        self._keep(job.key, state)
        run_id = state.run.id if state.run is not None else ""
        told = {event.block.offset for event in job.log if event.block is not None}
        for block in state.quarantined:
            if block.run == run_id and not block.repaired and block.offset not in told:
                logger.warning("shard %s: bad block %s at offset %d: %s; it is in quarantine",
                               job.key, block.cid or block.multihash, block.offset, block.problem)  # fmt: skip
                job.tell(ScrubEvent(job.key, "bad", block=block))
        if state.run is not None:
            run = state.run
            job.tell(ScrubEvent(job.key, "progress", run.phase.value, run.position, run.total))
        elif state.verdict is not None:
            job.tell(ScrubEvent(job.key, "verdict", verdict=state.verdict))
        return state

    async def _act(self, job: _Job, row: ShardRow, advance: progress.Advance) -> None:
        assert row.index is not None
        match advance.next:
            case Next.LOOK_AGAIN:
                await self._shards.look(job.key)
            case Next.REBUILD:
                reason = f"its index does not fit the data: {advance.reason}"
                self._shards.distrust_index(job.key, row.index.name, reason)
            case Next.BREAK:
                failure = Failure(ErrorClass.CORRUPT, advance.reason)
                self._shards.condemn(job.key, row.index.name, failure)

    async def _finish(self, job: _Job, row: ShardRow, state: ScrubState) -> None:
        if self._config.repair and state.bad and row.replicas:
            job.tell(ScrubEvent(job.key, "progress", Phase.REPAIR.value, job.now.done, job.now.total))
            state, troubles = await self._repairer.repaired(row, state, self._now)
            for trouble in troubles:
                logger.warning("shard %s: not repaired: %s", job.key, trouble)
            for block in state.quarantined:
                if block.repaired and state.run is not None and block.run == state.run.id:
                    job.tell(ScrubEvent(job.key, "repaired", block=block))
        state = progress.finish(state, self._now())
        self._keep(job.key, state)
        assert state.verdict is not None
        level = logging.WARNING if state.verdict.bad else logging.INFO
        logger.log(level, "shard %s: verified to depth %s: %s, %d bad, %d repaired", job.key,
                   state.verdict.depth.value, state.verdict.outcome.value, state.verdict.bad,
                   state.verdict.repaired)  # fmt: skip
        job.tell(ScrubEvent(job.key, "verdict", verdict=state.verdict))

    def _keep(self, key: str, state: ScrubState) -> None:
        """Durable first; then readers are told, where what they may read has changed."""
        before = self._store.scrub(key)
        self._store.put_scrub(key, state)
        text = progress.summary(state)
        if text != progress.summary(before):
            self._shards.set_quarantined(key, text)
        if (before.repairs, before.quarantined, before.verdict) != (
            state.repairs, state.quarantined, state.verdict,
        ):  # fmt: skip
            self._hub.publish(key)

    def _repaired(self, access: Access, state: ScrubState, index: str) -> Access:
        ours = state.repairs
        if ours is None or not ours.patches or ours.index != index or isinstance(access, RepairedAccess):
            return access
        return RepairedAccess(access, str(self._repairer.directory / ours.name), ours.patches)

    def _now(self) -> str:
        return _text(self._clock())


@asynccontextmanager
async def open_scrubber(
    *,
    shards: AllShards,
    store: ScrubStore,
    workers: Workers,
    load: Callable[[], Load],
    hub: Hub,
    repairer: Repairer,
    index_directory: Path,
    config: ScrubConfig,
    clock: Callable[[], float] = time.time,
    chance: Callable[[], float] = random.random,
) -> AsyncIterator[Scrubber]:
    """A scrubber that follows its schedule for the time of the block; what it was at goes on the next time."""
    wanted = [(key, state) for key, state in store.scrubs() if state.repairs is not None]
    there = await trio.to_thread.run_sync(_swept, repairer.directory, wanted)
    for key, state in wanted:
        if state.repairs is not None and state.repairs.name not in there:
            logger.warning("shard %s: its repairs are gone, so what they stood in for is bad again", key)
            store.put_scrub(key, progress.lost_repairs(state))
    async with trio.open_nursery() as nursery:
        scrubber = Scrubber(
            nursery, shards=shards, store=store, workers=workers, load=load, hub=hub, repairer=repairer,
            index_directory=index_directory, config=config, clock=clock, chance=chance,
        )  # fmt: skip
        standby = Standby(
            shards=shards, store=store, replicas=repairer.replicas, hub=hub, is_on=lambda: config.repair
        )
        nursery.start_soon(scrubber.run)
        nursery.start_soon(standby.run)
        yield scrubber
        nursery.cancel_scope.cancel()


def _swept(directory: Path, wanted: Iterable[tuple[str, ScrubState]]) -> set[str]:
    """The files of repairs that are there, once those that nobody wants are gone."""
    names = {state.repairs.name for _, state in wanted if state.repairs is not None}
    repairs.sweep(directory, names)
    return set(repairs.names(directory))


def _text(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0
