"""The scrubber: verifies shards when they are due or asked for, keeps what it finds, and repairs what it can.

What to look at and what it means is decided in `progress.py`, when in `schedule.py`; here it is carried out. All that
was found is in the catalogue before anything else happens, so a kill costs one slice.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import trio

from agent.dagstore.access import Access, RepairedAccess
from agent.dagstore.events import Hub
from agent.dagstore.failures import ErrorClass, Failure, ShardError
from agent.dagstore.indexer import Workers
from agent.dagstore.lifecycle import INDEXED_STATES, INDEXING_STATES, ShardState
from agent.dagstore.records import ShardRow
from agent.dagstore.scrub import progress, schedule
from agent.dagstore.scrub.job import SCHEDULED, Job
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
    time_text,
)
from agent.dagstore.scrub.repairer import Repairer
from agent.dagstore.scrub.routine import Routine
from agent.dagstore.scrub.schedule import ScrubConfig
from agent.dagstore.scrub.store import ScrubStore, Shards
from agent.scheduler.tasks import BACKGROUND_PRIORITY
from agent.workers import WorkerFailed

logger = logging.getLogger(__name__)


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
    damaged: int  # shards with blocks that cannot be read
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
        self._hub = hub
        self._repairer = repairer
        self._index_directory = index_directory
        self._config = config
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._damaged = {
            key for key, state in store.scrubs_with_findings() if state.bad
        }  # all, and maybe more
        self.routine = Routine(
            shards=shards, store=store, hub=hub, config=config, clock=clock, chance=chance,
            verify=self._begin_due, running=self._jobs.keys(),
        )  # fmt: skip

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
            job: Job | None = None
            while job is None or (job.depth.rank < wanted.rank and job.ended):
                job = self._jobs.get(key) or self._begin(key, wanted, sample, by)
                is_enough = job.depth.rank >= wanted.rank
                async with aclosing(job.watched()) as events:
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

    def quarantined(self) -> dict[str, str]:
        """The shards with blocks that cannot be read, by key, and which these are in a line."""
        found = {key: progress.summary(self._store.scrub(key)) for key in sorted(self._damaged)}
        found = {key: text for key, text in found.items() if text}  # others were repaired, or destroyed
        self._damaged = set(found)
        return found

    def readable(self, key: str, access: Access) -> Access:
        """How readers read the data: with the repairs that there are for it."""
        state = self._store.scrub(key)
        index = self._shards.row(key).index
        return self._repaired(access, state, "" if index is None else index.name)

    def statistics(self) -> ScrubStatistics:
        scheduled, overdue, at_s = self.routine.statistics()
        running = tuple(
            Running(job.key, job.depth, job.by, job.now.phase, job.now.done, job.now.total)
            for job in self._jobs.values()
        )
        next_at = None if at_s is None else time_text(at_s)
        return ScrubStatistics(scheduled, overdue, len(self.quarantined()), next_at, running)

    # One run

    def _begin(self, key: str, depth: Depth, sample: int, by: str) -> Job:
        job = Job(key, depth, sample, by, ScrubEvent(key, "progress"))
        self._jobs[key] = job
        self._nursery.start_soon(self._carry_out, job)
        return job

    def _begin_due(self, key: str, depth: Depth, sample: int) -> AsyncGenerator[ScrubEvent, None]:
        return self._begin(key, depth, sample, SCHEDULED).watched()

    async def _carry_out(self, job: Job) -> None:
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

    def _tell_failure(self, job: Job, error_class: ErrorClass, message: str) -> None:
        """The run stays as it is, to go on with another time."""
        try:
            state = self._store.scrub(job.key)
            if state.run is not None:
                self._store.put_scrub(job.key, progress.fail(state, message, self._now()))
        except ShardError as error:
            logger.warning("shard %s: %s", job.key, error)
        job.tell(ScrubEvent(job.key, "error", error=message, error_class=error_class.value))

    async def _verify(self, job: Job) -> None:
        await self._shards.look(job.key)
        row = self._indexed_row(job.key)
        assert row.index is not None
        old = self._store.scrub(job.key)
        state = progress.begin(
            old, run_id=secrets.token_hex(4), depth=job.depth, sample=job.sample, by=job.by,
            index=row.index.name, now=self._now(),
        )  # fmt: skip
        self._keep(job.key, state)
        if state.run is not None:
            total = state.run.total or row.index.data_offset + row.index.data_size
            job.tell(ScrubEvent(job.key, "progress", state.run.phase.value, state.run.position, total))
        while state.run is not None and state.run.phase is not Phase.REPAIR:
            started = trio.current_time()
            position = state.run.position
            result = await self._slice(job, row, state, state.run)
            advance = progress.advance(state, result, self._now())
            state = self._taken(job, advance)
            if advance.next is not Next.GO_ON and advance.next is not Next.REPAIR:
                await self._act(job, row, advance, old.verdict)
            elif job.is_in_no_hurry and state.run is not None:
                read = max(0, state.run.position - position)
                await trio.sleep(schedule.pause_after(read, trio.current_time() - started, self._config))
        if state.run is not None:
            await self._finish(job, row, state)

    def _indexed_row(self, key: str) -> ShardRow:
        row, state = self._shards.row(key), self._shards.state(key)
        if state not in INDEXED_STATES or row.index is None:
            message = f"cannot verify shard; expected state {ShardState.AVAILABLE.value}, was: {state.value}"
            indexing = "its data or its index was changed; verify it when it is indexed"
            why = indexing if state in INDEXING_STATES else row.error
            raise ShardError(ErrorClass.BUSY, f"{message}; {why}" if why else message, key=key)
        return row

    async def _slice(self, job: Job, row: ShardRow, state: ScrubState, run: Run) -> SliceResult:
        assert row.index is not None
        size = schedule.slice_bytes(self._config)
        async with self._shards.reading(job.key) as (access, needs):
            params = {
                "access": msgspec.to_builtins(self._repaired(access, state, row.index.name)),
                "index": str(self._index_directory / row.index.name),
                "indexer": row.indexer,
                "fingerprint": msgspec.to_builtins(row.index.fingerprint),
                **progress.task(run, size),
            }
            # What nobody waits for gives way to what somebody waits for.
            found = await self._workers.run(
                "verify", params, None, needs, subject=job.key, size_bytes=min(size, row.index.fingerprint.size),
                priority=BACKGROUND_PRIORITY if job.is_in_no_hurry else 0,
            )  # fmt: skip
        return msgspec.convert(found, SliceResult)

    def _taken(self, job: Job, advance: progress.Advance) -> ScrubState:
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

    async def _act(self, job: Job, row: ShardRow, advance: progress.Advance, before: Verdict | None) -> None:
        assert row.index is not None
        match advance.next:
            case Next.LOOK_AGAIN:
                await self._shards.look(job.key)
            case Next.REBUILD if before is not None and before.outcome is Outcome.REBUILT:
                logger.error("shard %s: its index was just made anew and does not fit the data: %s; please report this",
                             job.key, advance.reason)  # fmt: skip
            case Next.REBUILD:
                reason = f"its index does not fit the data: {advance.reason}"
                self._shards.distrust_index(job.key, row.index.name, reason)
            case Next.BREAK:
                failure = Failure(ErrorClass.CORRUPT, advance.reason)
                self._shards.condemn(job.key, row.index.name, failure)

    async def _finish(self, job: Job, row: ShardRow, state: ScrubState) -> None:
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
        if text:
            self._damaged.add(key)
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
        return time_text(self._clock())
