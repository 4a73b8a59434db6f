"""Gives tasks to workers as far as the limits allow, and takes back what became of them.

What may begin where is decided in `deciding`, of values that are made here at each event: a task came or ended, a
worker came or went, limits changed, or a second has passed while something waits. Whoever calls `run` waits in a trio
task of his own; there is one more, which decides. Between two awaits everything here is atomic.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

import trio

from agent.dagstore import breaker
from agent.dagstore.breaker import HEALTHY, Breaker, BreakerState
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.records import now_text
from agent.resources.facts import Snapshot
from agent.scheduler import provisional
from agent.scheduler.jobs import ASSIGNED, PREPARING, RUNNING, Counts, Estimate, Job
from agent.scheduler.provisional import Policy
from agent.scheduler.tasks import Phase, Running, Task, Wait, WorkerView
from agent.scheduler.waiting import Waiting
from agent.workers.executor import Distant, Done, Executor, Needs
from agent.workers.failures import WorkerBarred, WorkerDied, WorkerFailed, WorkerLost
from agent.workers.messages import Params

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0
"""Between two looks at the limits while something waits."""
ATTEMPTS = 2  # of a task whose process is killed
LOSSES = 5  # of the whole worker, before a task is given up
CRASHES = breaker.Limits(failures=5, pause_s=5.0, max_pause_s=300.0)
AGENT_KINDS = frozenset({"fetch"})
"""What the agent does itself, in its own loop: only its own worker is asked whether there is room."""


class EstimateStore(Protocol):
    """Where what was learned is kept: `agent.catalogue.Catalogue`. Raises ShardError."""

    def estimates(self) -> list[Estimate]:
        """All of them."""

    def put_estimate(self, estimate: Estimate) -> None:
        """Inserts or replaces the one of that kind and size."""


@dataclass(eq=False, slots=True)
class _Entry:
    """A task that has not ended."""

    task: Task
    queued_at: str
    turn: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    worker: _Worker | None = None  # that it was given to
    waiting: Wait | None = None
    started_s: float = 0.0
    started_at: str = ""
    done: int = 0
    total: int = 0
    memory_limit: int = 0
    is_active: bool = False
    is_lost: bool = False  # its worker went away
    called_off: str = ""  # why it does not go on

    def report(self, done: int, total: int) -> None:
        self.done, self.total = done, total


@dataclass(eq=False, slots=True)
class _Worker:
    """A worker that is connected."""

    executor: Executor
    enabled: bool = True
    is_lost: bool = False  # what it had was given up: it has to join anew
    entries: dict[str, _Entry] = field(default_factory=dict)
    crashes: Breaker = HEALTHY

    def pause_s(self, now_s: float) -> float:
        """For how long nothing new is given to it, since its processes die one after the other."""
        return 0.0 if self.crashes.state is BreakerState.CLOSED else max(0.0, self.crashes.until_s - now_s)


class Admission:
    """Work inside the agent that was let in; `Scheduler.admitted`."""

    def __init__(self, entry: _Entry) -> None:
        self._entry = entry

    def begin(self) -> None:
        """What it needed is there: it is active from now on."""
        self._entry.is_active = True

    def report(self, done: int, total: int) -> None:
        self._entry.report(done, total)


class Local(Executor, Protocol):
    """The agent's own worker: `agent.workers.LocalExecutor`."""

    def idle(self) -> int:
        """How many processes hold memory and do nothing."""

    async def trim(self) -> None:
        """Ends those."""


class Scheduler:
    """Get one from `open_scheduler`; shows itself as `jobs.Scheduling` says."""

    def __init__(
        self,
        nursery: trio.Nursery,
        local: Local,
        *,
        refresh: Callable[[], object],
        store: EstimateStore,
        policy: Policy,
        limit: int,
        confinement: str,
        interval_s: float,
    ) -> None:
        self._nursery = nursery
        self._local = local
        self._refresh = refresh
        self._store = store
        self._policy = policy
        self._limit = limit
        self._confinement = confinement
        self._interval_s = interval_s
        self._workers: dict[str, _Worker] = {local.id: _Worker(local)}
        self._entries: dict[str, _Entry] = {}
        self._waiting = Waiting()
        self._sequence = 0
        self._poked = trio.Event()
        self._trimming = False
        self.passes = 0  # how often it was decided, for tests and metrics

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
        once; with more memory, if it outgrew what was reserved. `needs`: of the transient that it reads, if it does.

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
                    logger.info("%s: %s; another worker is asked", _name(entry.task), error)
                    self._queue_again(entry, barred=entry.task.barred | {worker.executor.id})
                except WorkerLost as error:
                    worker.is_lost = True
                    losses += 1
                    if losses > LOSSES:
                        raise
                    logger.warning("%s: %s; it is begun anew", _name(entry.task), error)
                    self._queue_again(entry)
                except WorkerDied as error:
                    self._take_death(worker, entry, error)
                else:
                    worker.crashes = breaker.succeeded(worker.crashes)
                    self._learn(entry.task, done.peak_bytes, killed=False)
                    return done.result
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
        finally:
            self._leave(entry)

    def hurry(self, kind: str, subject: str, priority: int) -> None:
        """Somebody needs this now: raises the priority of what waits of that kind about that subject."""
        for entry in self._entries.values():
            task = entry.task
            if (task.kind, task.subject) == (kind, subject) and task.priority < priority:
                entry.task = replace(task, priority=priority)
                if task.id in self._waiting:
                    self._waiting.remove(task.id)
                    self._waiting.add(entry.task)
                    self.poke()

    @contextmanager
    def join(self, executor: Executor) -> Iterator[None]:
        """Another worker, for the time of the block; what it has at the end is begun anew elsewhere."""
        worker = self._workers[executor.id] = _Worker(executor)
        self.poke()
        try:
            yield
        finally:
            del self._workers[executor.id]
            for entry in list(worker.entries.values()):
                entry.is_lost = True
                entry.scope.cancel()
            self.poke()

    def poke(self, _reason: object = None) -> None:
        """Something has changed: decide anew, soon. Cheap; many in one turn are one."""
        self._poked.set()

    # What shows and steers it: `jobs.Scheduling`

    def snapshot(self) -> Snapshot:
        return self._local.snapshot()

    def workers(self) -> tuple[WorkerView, ...]:
        return tuple(_noted(self._view(worker), worker.executor) for worker in self._workers.values())

    def jobs(self) -> tuple[Job, ...]:
        running = [
            self._job(entry, entry.worker) for entry in self._entries.values() if entry.worker is not None
        ]
        places = enumerate(self._waiting, ASSIGNED)
        waiting = [self._waiting_job(self._entries[task.id], place) for place, task in places]
        return (*running, *waiting)

    def counts(self) -> Counts:
        own = self._workers[self._local.id]
        return Counts(len(own.entries), self._local.idle(), len(self._waiting), self._limit or self._cpus())

    def estimates(self) -> tuple[Estimate, ...]:
        return tuple(self._store.estimates())

    def groups(self) -> str:
        return self._confinement

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
        self._waiting.remove(task_id)
        entry.turn.set()

    def set_enabled(self, worker: str, enabled: bool) -> None:
        if worker not in self._workers:
            raise ShardError(ErrorClass.NOT_FOUND, f"there is no worker {worker!r}")
        self._workers[worker].enabled = enabled
        executor = self._workers[worker].executor
        if isinstance(executor, Distant):
            executor.set_enabled(enabled)
        self.poke()

    # One task

    def _enter(self, kind: str, subject: str, size_bytes: int, priority: int) -> _Entry:
        self._sequence += 1
        requirement = provisional.requirement(kind, size_bytes)
        task = Task(
            str(uuid.uuid4()), kind, subject, size_bytes, priority, requirement, self._sequence,
            trio.current_time(),
        )  # fmt: skip
        entry = self._entries[task.id] = _Entry(task, now_text())
        self._waiting.add(task)
        self.poke()
        return entry

    async def _turn(self, entry: _Entry) -> _Worker:
        """Waits until the task is given to a worker."""
        await entry.turn.wait()
        self._refuse_if_called_off(entry)
        assert entry.worker is not None
        return entry.worker

    async def _executed(
        self,
        worker: _Worker,
        entry: _Entry,
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
        raise WorkerLost(f"worker {worker.executor.name} went away")

    def _refuse_if_called_off(self, entry: _Entry) -> None:
        if entry.called_off:
            raise WorkerFailed(ErrorClass.CANCELLED, f"{_name(entry.task)} {entry.called_off}")
        if entry.is_lost:
            raise WorkerLost("its worker went away")

    def _take_death(self, worker: _Worker, entry: _Entry, error: WorkerDied) -> None:
        """Queues the task again, or raises what became of it."""
        if error.out_of_memory:
            self._learn(entry.task, entry.memory_limit, killed=True)
        else:
            self._count_crash(worker, entry)
        if not error.was_killed:
            raise error
        if entry.task.attempt >= ATTEMPTS:
            hint = "perhaps for want of memory (the kernel's log would say so); try again later"
            raise WorkerDied(
                f"{error}, {hint}", error.returncode, out_of_memory=error.out_of_memory
            ) from error
        logger.warning("%s; trying once more%s", error, " with more memory" if error.out_of_memory else "")
        self._queue_again(entry, attempt=entry.task.attempt + 1)

    def _count_crash(self, worker: _Worker, entry: _Entry) -> None:
        now_s = trio.current_time()
        worker.crashes = breaker.failed(worker.crashes, CRASHES, now_s, entry.started_s)
        pause_s = worker.pause_s(now_s)
        if pause_s:
            logger.warning(
                "processes of worker %s die one after the other, %d by now; it gets nothing new for %.0f s",
                worker.executor.name, worker.crashes.failures, pause_s,
            )  # fmt: skip

    def _queue_again(
        self, entry: _Entry, *, barred: frozenset[str] | None = None, attempt: int | None = None
    ) -> None:
        self._give_back(entry)
        task = entry.task
        entry.task = replace(
            task,
            barred=task.barred if barred is None else barred,
            attempt=task.attempt if attempt is None else attempt,
            requirement=provisional.requirement(task.kind, task.size_bytes),
        )
        entry.turn, entry.scope = trio.Event(), trio.CancelScope()
        entry.is_lost = entry.is_active = False
        entry.done = entry.total = 0
        self._waiting.add(entry.task)

    def _give_back(self, entry: _Entry) -> None:
        if entry.worker is not None:
            entry.worker.entries.pop(entry.task.id, None)
            entry.worker = None
        self.poke()

    def _leave(self, entry: _Entry) -> None:
        self._give_back(entry)
        self._waiting.remove(entry.task.id)
        del self._entries[entry.task.id]

    def _learn(self, task: Task, peak_bytes: int, *, killed: bool) -> None:
        pass

    # Deciding

    async def decide_forever(self) -> None:
        """Decides whenever something has happened."""
        while True:
            with trio.move_on_after(self._interval_s if len(self._waiting) else float("inf")):
                await self._poked.wait()
            self._poked = trio.Event()
            try:
                self._decide()
            except Exception:  # or nothing would ever begin again
                logger.exception("deciding which task may begin failed; trying again")

    def _decide(self) -> None:
        if not len(self._waiting):
            return
        self.passes += 1
        self._refresh()
        now_s = trio.current_time()
        views = [self._view(worker) for worker in self._workers.values()]
        decision = provisional.decide(self._waiting.first(), views, now_s, self._policy)
        for task_id, wait in decision.waiting.items():
            self._entries[task_id].waiting = wait
        for task_id, worker_id in decision.assigned:
            worker, entry = self._workers[worker_id], self._entries[task_id]
            why_not = self._obstacle(worker, entry.task, now_s)
            if why_not:
                entry.waiting = Wait(why_not, worker_id)
            else:
                self._assign(worker, entry, now_s)
        if len(self._waiting) and self._local.idle() and not self._trimming:
            self._trimming = True
            self._nursery.start_soon(self._trim)

    def _obstacle(self, worker: _Worker, task: Task, now_s: float) -> str:
        """What the decision does not know of."""
        if worker.executor is self._local and self._limit and _counts(task):
            busy = sum(_counts(entry.task) for entry in worker.entries.values())
            if busy >= self._limit:
                return f"needs a process; workers.count allows {self._limit}"
        if worker.crashes.state is not BreakerState.CLOSED:  # after a pause, one shows how it is
            worker.crashes, wait_s = breaker.ask(worker.crashes, CRASHES, now_s)
            if wait_s:
                return "one task after another, since processes have died"
        return ""

    def _assign(self, worker: _Worker, entry: _Entry, now_s: float) -> None:
        self._waiting.remove(entry.task.id)
        worker.entries[entry.task.id] = entry
        entry.worker, entry.waiting = worker, None
        entry.started_s, entry.started_at = now_s, now_text()
        entry.memory_limit = entry.task.requirement.max_memory
        entry.turn.set()

    async def _trim(self) -> None:
        """What waits may need the memory that idle processes hold."""
        try:
            await self._local.trim()
        finally:
            self._trimming = False
        self.poke()

    # Values for those who decide and those who look

    def _view(self, worker: _Worker) -> WorkerView:
        executor = worker.executor
        now_s = trio.current_time()
        running = tuple(self._running(entry, worker) for entry in worker.entries.values())
        pause_s = worker.pause_s(now_s)
        pressed = (
            f"{worker.crashes.failures} of its processes have died; nothing new for {pause_s:.0f} s"
            if pause_s and worker.crashes.state is BreakerState.OPEN
            else ""
        )
        return provisional.view(
            executor, executor.snapshot(), running, worker.enabled and not worker.is_lost, pressed
        )

    def _running(self, entry: _Entry, worker: _Worker) -> Running:
        used = worker.executor.used_bytes(entry.task.id)
        phase = Phase.ACTIVE if used or entry.is_active else Phase.PREPARING
        return Running(entry.task, phase, used, entry.started_s)

    def _job(self, entry: _Entry, worker: _Worker) -> Job:
        running = self._running(entry, worker)
        return Job(
            entry.task, running.phase, RUNNING if running.phase is Phase.ACTIVE else PREPARING,
            entry.queued_at, entry.started_at, worker.executor.id, worker.executor.name,
            entry.done, entry.total, running.used_bytes, entry.memory_limit, None,
        )  # fmt: skip

    def _waiting_job(self, entry: _Entry, place: int) -> Job:
        return Job(entry.task, None, place, entry.queued_at, "", waiting=entry.waiting)

    def _entry(self, task_id: str) -> _Entry:
        entry = self._entries.get(task_id)
        if entry is None:
            raise ShardError(ErrorClass.NOT_FOUND, f"there is no task {task_id!r}")
        return entry

    def _cpus(self) -> int:
        return max(1, (self.snapshot().cpus.limit or 1000) // 1000)


def _name(task: Task) -> str:
    return f"task {task.kind} of {task.subject}" if task.subject else f"task {task.kind}"


def _noted(view: WorkerView, executor: Executor) -> WorkerView:
    """With what a worker elsewhere says of itself."""
    return replace(view, note=executor.note) if isinstance(executor, Distant) else view


def _counts(task: Task) -> bool:
    """Whether it counts against `workers.count`: what takes no CPU worth counting never waits for what takes hours."""
    return task.requirement.max_parallelism != 0


@asynccontextmanager
async def open_scheduler(
    local: Local,
    *,
    store: EstimateStore,
    refresh: Callable[[], object] = lambda: None,
    policy: Policy | None = None,
    limit: int = 0,
    confinement: str = "",
    interval_s: float = INTERVAL_S,
) -> AsyncIterator[Scheduler]:
    """A scheduler for the time of the block, with the agent's own worker.

    `refresh` has the limits read now, so that `local.snapshot()` gives what is true at this moment. `limit`: processes
    of the agent's own worker at once; 0: as many as limits allow.
    """
    async with trio.open_nursery() as nursery:
        scheduler = Scheduler(
            nursery, local, refresh=refresh, store=store, policy=policy or Policy(), limit=limit,
            confinement=confinement, interval_s=interval_s,
        )  # fmt: skip
        nursery.start_soon(scheduler.decide_forever)
        yield scheduler
        nursery.cancel_scope.cancel()
