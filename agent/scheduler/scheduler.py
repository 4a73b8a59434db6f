"""Runs heavy work as far as the limits allow: takes tasks, and gives what became of them.

Whoever calls `run` waits in a trio task of his own; where and when his task begins is said in `dispatching`. Between
two awaits everything here is atomic.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.records import now_text
from agent.metrics import Metrics
from agent.resources.facts import Snapshot
from agent.scheduler import estimating, seeing, table
from agent.scheduler.dispatching import AGENT_KINDS, Dispatcher, Local, Settings
from agent.scheduler.entries import DONE, Admission, Connected, Entry
from agent.scheduler.jobs import Counts, Estimate, Job, Tally
from agent.scheduler.needs import EstimateStore, Requirements
from agent.scheduler.overrides import Overrides
from agent.scheduler.tasks import Task, WorkerView
from agent.workers.executor import Distant, Done, Executor, Needs
from agent.workers.failures import WorkerBarred, WorkerDied, WorkerFailed, WorkerLost
from agent.workers.messages import Params

__all__ = ["AGENT_KINDS", "Local", "Scheduler", "Settings", "open_scheduler"]

logger = logging.getLogger(__name__)

ATTEMPTS = 2  # of a task whose process is killed, by whom and why is not known
OUTGROWN_ATTEMPTS = 4
"""Of one that outgrows its own limit, which hurts nobody else. What was reserved may be far too little: a CAR of tiny
blocks takes several times what is usual for its size."""
LOSSES = 5  # of the whole worker, before a task is given up


class Scheduler:
    """Get one from `open_scheduler`; shows itself as `jobs.Scheduling` says."""

    def __init__(
        self,
        nursery: trio.Nursery,
        local: Local,
        *,
        refresh: Callable[[], object],
        store: EstimateStore,
        settings: Settings,
    ) -> None:
        self._local = local
        self._settings = settings
        self._requirements = Requirements(store, settings.overrides)
        self.metrics = Metrics()
        self._dispatcher = Dispatcher(
            local, refresh=refresh, requirements=self._requirements, settings=settings, metrics=self.metrics
        )  # fmt: skip
        self._entries: dict[str, Entry] = {}  # all tasks that have not ended
        self._sequence = 0
        nursery.start_soon(self._dispatcher.decide_forever)

    # Work

    async def run(
        self,
        kind: str,
        params: Params,
        progress: Callable[[int, int], None] | None = None,
        needs: Needs | None = None,
        *,
        subject: str = "",
        size_bytes: int = 0,
        priority: int = 0,
    ) -> Params:
        """Runs a task in a worker process when it is its turn, and gives its result. What is killed is begun anew,
        once; a few times, each with more memory, if it outgrew what was reserved. `needs`: of the transient that it
        reads, if it reads one.

        Raises WorkerFailed, WorkerDied. If cancelled, its process was killed when this returns.
        """
        entry = self._enter(kind, subject, size_bytes, priority)
        losses = 0
        try:
            while True:
                worker = await self._turn(entry)
                try:
                    done = await self._executed(worker, entry, params, progress, needs)
                except WorkerBarred as error:
                    logger.info("%s: %s; another worker is asked", entry.name, error)
                    self._dispatcher.again(entry, barred=entry.task.barred | {worker.executor.id})
                except WorkerLost as error:
                    worker.is_lost = True
                    losses += 1
                    if losses > LOSSES:
                        raise
                    logger.warning("%s: %s; it is begun anew", entry.name, error)
                    self._dispatcher.again(entry)
                except WorkerDied as error:
                    self._take_death(worker, entry, error)
                else:
                    worker.done()
                    self._requirements.learn(entry.task, done.peak_bytes)
                    self._dispatcher.revise()
                    entry.outcome = DONE
                    return done.result
        except WorkerFailed as error:
            entry.outcome = error.error_class.value
            raise
        finally:
            self._leave(entry)

    @asynccontextmanager
    async def admitted(
        self, kind: str, *, subject: str = "", size_bytes: int = 0, priority: int = 0
    ) -> AsyncIterator[Admission]:
        """Room for work that the agent does itself, for the time of the block; waits for it first.

        Raises WorkerFailed(cancelled) if it is taken out of the queue, or aborted in the middle.
        """
        entry = self._enter(kind, subject, size_bytes, priority)
        try:
            await self._turn(entry)
            with entry.scope:
                yield Admission(entry)
            self._refuse_if_called_off(entry)
            entry.outcome = DONE
        except (WorkerFailed, ShardError) as error:
            entry.outcome = error.error_class.value
            raise
        finally:
            self._leave(entry)

    def hurry(self, kind: str, subject: str, priority: int) -> None:
        """Somebody needs this now: raises the priority of what waits of that kind about that subject."""
        self._dispatcher.hurry(kind, subject, priority)

    @contextmanager
    def join(self, executor: Executor) -> Iterator[None]:
        """Another worker, for the time of the block; what it has at the end is begun anew elsewhere."""
        worker = self._dispatcher.workers[executor.id] = Connected(executor)
        self.poke()
        try:
            yield
        finally:
            del self._dispatcher.workers[executor.id]
            for entry in worker.entries.values():
                entry.is_lost = True
                entry.scope.cancel()
            self.poke()

    def poke(self, _reason: object = None) -> None:
        """Something has changed: decide anew, soon. Cheap; many in one turn are one."""
        self._dispatcher.poke()

    # What shows and steers it: `jobs.Scheduling`

    def snapshot(self) -> Snapshot:
        return self._local.snapshot()

    def workers(self) -> tuple[WorkerView, ...]:
        return tuple(self._dispatcher.views())

    def jobs(self, waiting: int | None = None) -> tuple[Job, ...]:
        return (*self._dispatcher.running_jobs(), *self._dispatcher.waiting_jobs(waiting))

    def tally(self) -> Tally:
        return self._dispatcher.tally()

    def counts(self) -> Counts:
        own = self._dispatcher.workers[self._local.id]
        cpus = seeing.cpus(self.snapshot())
        limit = min(cpus, self._settings.limit or cpus)
        return Counts(len(own.entries), self._local.idle(), len(self._dispatcher), limit)

    @property
    def passes(self) -> int:
        """How often it was decided what may begin."""
        return self._dispatcher.passes

    def estimates(self) -> tuple[Estimate, ...]:
        return self._requirements.learned()

    def overrides(self) -> Overrides:
        return self._settings.overrides

    def groups(self) -> str:
        return self._local.confinement()

    def abort(self, task_id: str) -> None:
        entry = self._entry(task_id)
        entry.called_off = "was aborted"
        entry.scope.cancel()
        if entry.worker is None:
            self.remove(task_id)

    def remove(self, task_id: str) -> None:
        entry = self._entry(task_id)
        if entry.worker is not None:
            raise ShardError(ErrorClass.BUSY, f"task {task_id} is running; abort it")
        entry.called_off = entry.called_off or "was taken out of the queue"
        self._dispatcher.take_out(entry)
        entry.turn.set()

    def set_enabled(self, worker: str, enabled: bool) -> None:
        if worker not in self._dispatcher.workers:
            raise ShardError(ErrorClass.NOT_FOUND, f"there is no worker {worker!r}")
        self._dispatcher.workers[worker].enabled = enabled
        executor = self._dispatcher.workers[worker].executor
        if isinstance(executor, Distant):
            executor.set_enabled(enabled)
        self.poke()

    # One task

    def _enter(self, kind: str, subject: str, size_bytes: int, priority: int) -> Entry:
        if kind not in table.KINDS:
            raise WorkerFailed(ErrorClass.BUG, f"there is no task of the kind {kind!r}")
        self._sequence += 1
        requirement = self._requirements.of(kind, size_bytes)
        task = Task(
            str(uuid.uuid4()), kind, subject, size_bytes, priority, requirement, self._sequence,
            trio.current_time(),
        )  # fmt: skip
        entry = self._entries[task.id] = Entry(task, now_text())
        self._dispatcher.add(entry)
        return entry

    async def _turn(self, entry: Entry) -> Connected:
        """Waits until the task is given to a worker."""
        await entry.turn.wait()
        self._refuse_if_called_off(entry)
        assert entry.worker is not None
        return entry.worker

    async def _executed(
        self,
        worker: Connected,
        entry: Entry,
        params: Params,
        progress: Callable[[int, int], None] | None,
        needs: Needs | None,
    ) -> Done:
        def report(done: int, total: int) -> None:
            entry.report(done, total)
            if progress is not None:
                progress(done, total)

        with entry.scope:
            return await worker.executor.execute(
                entry.task, params, report, needs, memory_limit=entry.memory_limit
            )
        self._refuse_if_called_off(entry)
        raise AssertionError("nobody else cancels it")

    def _refuse_if_called_off(self, entry: Entry) -> None:
        if entry.called_off:
            raise WorkerFailed(ErrorClass.CANCELLED, f"{entry.name} {entry.called_off}")
        if entry.is_lost:
            raise WorkerLost("its worker went away")

    def _take_death(self, worker: Connected, entry: Entry, error: WorkerDied) -> None:
        """Queues the task again, or raises what became of it."""
        self.metrics.worker_died(out_of_memory=error.out_of_memory)
        if error.out_of_memory:
            self._requirements.outgrown(entry.task, entry.memory_limit)
            self._dispatcher.revise()
        else:
            self._count_crash(worker, entry)
        if not error.was_killed:
            raise error
        task = entry.task
        if task.attempt >= (OUTGROWN_ATTEMPTS if error.out_of_memory else ATTEMPTS):
            hint = "perhaps for want of memory (the kernel's log would say so); try again later"
            if error.out_of_memory:
                hint = "and so it did with less; more is reserved the next time"
            died = WorkerDied(f"{error}, {hint}", error.returncode, out_of_memory=error.out_of_memory)
            raise died from error
        needs = self._requirements.of(task.kind, task.size_bytes)
        if error.out_of_memory:
            needs = estimating.raised(needs, entry.memory_limit)
            if task.attempt > 1:  # a little more was not enough
                needs = estimating.raised(needs, needs.max_memory)
        logger.warning("%s; trying once more%s", error, ", with more memory" if error.out_of_memory else "")
        self._dispatcher.again(entry, attempt=task.attempt + 1, requirement=needs)

    def _count_crash(self, worker: Connected, entry: Entry) -> None:
        now_s = trio.current_time()
        worker.died(now_s, entry.started_s)
        pause_s = worker.pause_s(now_s)
        if pause_s:
            logger.warning(
                "processes of worker %s die one after the other, %d by now; it gets nothing new for %.0f s",
                worker.executor.name, worker.crashes.failures, pause_s,
            )  # fmt: skip

    def _leave(self, entry: Entry) -> None:
        took_s = trio.current_time() - entry.started_s if entry.worker is not None else None
        self.metrics.task_ended(entry.task.kind, entry.outcome, took_s)
        self._dispatcher.give_back(entry)
        self._dispatcher.take_out(entry)
        del self._entries[entry.task.id]

    def _entry(self, task_id: str) -> Entry:
        entry = self._entries.get(task_id)
        if entry is None:
            raise ShardError(ErrorClass.NOT_FOUND, f"there is no task {task_id!r}")
        return entry


@asynccontextmanager
async def open_scheduler(
    local: Local,
    *,
    store: EstimateStore,
    refresh: Callable[[], object] = lambda: None,
    settings: Settings | None = None,
) -> AsyncIterator[Scheduler]:
    """A scheduler for the time of the block, with the agent's own worker.

    `refresh` has the limits read now, so that `local.snapshot()` gives what is true at this moment.
    """
    async with trio.open_nursery() as nursery:
        scheduler = Scheduler(nursery, local, refresh=refresh, store=store, settings=settings or Settings())
        yield scheduler
        nursery.cancel_scope.cancel()
