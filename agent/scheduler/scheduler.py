"""Gives tasks to workers as far as the limits allow, and takes back what became of them.

What may begin where is decided in `deciding`, of values that are made here at each event: a task came or ended, a
worker came or went, limits changed, or a second has passed while something waits. Whoever calls `run` waits in a trio
task of his own; there is one more, which decides. Between two awaits everything here is atomic.
"""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.records import now_text
from agent.resources.facts import Snapshot
from agent.scheduler import admission, deciding, estimating, overrides, seeing, table
from agent.scheduler.admission import Load, Rule
from agent.scheduler.entries import Admission, Connected, Entry
from agent.scheduler.jobs import ASSIGNED, Counts, Estimate, Job
from agent.scheduler.needs import EstimateStore, Requirements
from agent.scheduler.order import DEFAULT_POLICY, Policy, Queue
from agent.scheduler.overrides import Overrides
from agent.scheduler.tasks import Decision, Task, Wait, WorkerView
from agent.workers.executor import Done, Executor, Needs
from agent.workers.failures import WorkerBarred, WorkerDied, WorkerFailed, WorkerLost
from agent.workers.messages import Params

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0
"""Between two looks at the limits while something waits."""
ATTEMPTS = 2  # of a task whose process is killed
LOSSES = 5  # of the whole worker, before a task is given up
_OF_MEMORY = {Rule.HEADROOM, Rule.LEAST_HEADROOM}
AGENT_KINDS = frozenset(kind.name for kind in table.KINDS.values() if not kind.function)
"""What the agent does itself, in its own loop: its own worker is asked whether there is room."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How it decides, from `[resources]`, `[scheduler]` and `[workers]`."""

    policy: Policy = DEFAULT_POLICY
    overrides: Overrides = overrides.NONE
    limit: int = 0  # processes of the agent's own worker that compute at once; 0: as many as limits allow
    reserve: int = seeing.RESERVE_BYTES
    pressure: float = seeing.PRESSURE_PERCENT
    interval_s: float = INTERVAL_S


class Local(Executor, Protocol):
    """The agent's own worker: `agent.workers.LocalExecutor`."""

    def idle(self) -> int:
        """How many processes hold memory and do nothing."""

    async def trim(self) -> None:
        """Ends those."""

    def level(self, task_id: str) -> str:
        """The group of a task's process; "": it has no limit of its own."""

    def confinement(self) -> str:
        """Whether each process has a limit of its own, and why not, in a sentence."""


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
        self._nursery = nursery
        self._local = local
        self._refresh = refresh
        self._settings = settings
        self._requirements = Requirements(store, settings.overrides)
        self._workers: dict[str, Connected] = {local.id: Connected(local)}
        self._entries: dict[str, Entry] = {}
        self._queue = Queue(settings.policy)
        self._queue.revise(self._requirements.of)
        self._decision = Decision()  # the last one
        self._held: dict[str, Wait] = {}  # what it would have begun, and we did not
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
                    logger.info("%s: %s; another worker is asked", entry.name, error)
                    self._queue_again(entry, barred=entry.task.barred | {worker.executor.id})
                except WorkerLost as error:
                    worker.is_lost = True
                    losses += 1
                    if losses > LOSSES:
                        raise
                    logger.warning("%s: %s; it is begun anew", entry.name, error)
                    self._queue_again(entry)
                except WorkerDied as error:
                    self._take_death(worker, entry, error)
                else:
                    worker.done()
                    self._requirements.learn(entry.task, done.peak_bytes)
                    self._queue.revise(self._requirements.of)
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
                if self._queue.get(task.id) is not None:
                    self._queue.remove(task.id)
                    self._queue.add(entry.task)
                    self.poke()

    @contextmanager
    def join(self, executor: Executor) -> Iterator[None]:
        """Another worker, for the time of the block; what it has at the end is begun anew elsewhere."""
        worker = self._workers[executor.id] = Connected(executor)
        self.poke()
        try:
            yield
        finally:
            del self._workers[executor.id]
            for entry in worker.entries.values():
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
        return tuple(map(self._view, self._workers.values()))

    def jobs(self) -> tuple[Job, ...]:
        running = [
            entry.job(worker.running(entry), worker.executor, self._enforced(worker, entry))
            for worker in self._workers.values()
            for entry in worker.entries.values()
        ]
        waits = self._decision.waiting
        waiting = [
            self._entries[task.id].waiting_job(task, place, self._held.get(task.id) or waits.get(task.id))
            for place, task in enumerate(self._queue, ASSIGNED)
        ]
        return (*running, *waiting)

    def counts(self) -> Counts:
        own = self._workers[self._local.id]
        cpus = seeing.cpus(self.snapshot())
        limit = min(cpus, self._settings.limit or cpus)
        return Counts(len(own.entries), self._local.idle(), len(self._queue), limit)

    def estimates(self) -> tuple[Estimate, ...]:
        return self._requirements.learned()

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
        self._unqueue(entry)
        entry.turn.set()

    def set_enabled(self, worker: str, enabled: bool) -> None:
        if worker not in self._workers:
            raise ShardError(ErrorClass.NOT_FOUND, f"there is no worker {worker!r}")
        self._workers[worker].enabled = enabled
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
        self._queue.add(task)
        self.poke()
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
        if error.out_of_memory:
            self._requirements.outgrown(entry.task, entry.memory_limit)
            self._queue.revise(self._requirements.of)
        else:
            self._count_crash(worker, entry)
        if not error.was_killed:
            raise error
        task = entry.task
        if task.attempt >= ATTEMPTS:
            hint = "perhaps for want of memory (the kernel's log would say so); try again later"
            if error.out_of_memory:
                hint = "and so it did with less; more is reserved the next time"
            died = WorkerDied(f"{error}, {hint}", error.returncode, out_of_memory=error.out_of_memory)
            raise died from error
        needs = self._requirements.of(task.kind, task.size_bytes)
        if error.out_of_memory:
            needs = estimating.raised(needs, entry.memory_limit)
        logger.warning("%s; trying once more%s", error, ", with more memory" if error.out_of_memory else "")
        self._queue_again(entry, attempt=task.attempt + 1, requirement=needs)

    def _count_crash(self, worker: Connected, entry: Entry) -> None:
        now_s = trio.current_time()
        worker.died(now_s, entry.started_s)
        pause_s = worker.pause_s(now_s)
        if pause_s:
            logger.warning(
                "processes of worker %s die one after the other, %d by now; it gets nothing new for %.0f s",
                worker.executor.name, worker.crashes.failures, pause_s,
            )  # fmt: skip

    def _queue_again(self, entry: Entry, **changes: Any) -> None:  # Any: as the field of Task is
        self._give_back(entry)
        entry.again(replace(entry.task, **changes))
        self._queue.add(entry.task)

    def _give_back(self, entry: Entry) -> None:
        if entry.worker is not None:
            del entry.worker.entries[entry.task.id]
            entry.worker = None
        self.poke()

    def _leave(self, entry: Entry) -> None:
        self._give_back(entry)
        self._unqueue(entry)
        del self._entries[entry.task.id]

    def _unqueue(self, entry: Entry) -> None:
        self._held.pop(entry.task.id, None)
        if self._queue.get(entry.task.id) is not None:
            entry.task = self._queue.remove(entry.task.id)  # with what it needs by now

    def _entry(self, task_id: str) -> Entry:
        entry = self._entries.get(task_id)
        if entry is None:
            raise ShardError(ErrorClass.NOT_FOUND, f"there is no task {task_id!r}")
        return entry

    # Deciding

    async def decide_forever(self) -> None:
        """Decides whenever something has happened, and now and then while something waits."""
        while True:
            with trio.move_on_after(self._settings.interval_s if len(self._queue) else math.inf):
                await self._poked.wait()
            self._poked = trio.Event()
            try:
                self._decide()
            except Exception:  # or nothing would ever begin again
                logger.exception("deciding which task may begin failed; trying again")

    def _decide(self) -> None:
        self._held.clear()
        if not len(self._queue):
            return
        self.passes += 1
        self._refresh()
        now_s = trio.current_time()
        views = {worker.executor.id: self._view(worker) for worker in self._workers.values()}
        self._decision = deciding.decide(self._queue, list(views.values()), now_s, self._settings.policy)
        idle = self._local.idle()
        for task_id, worker_id in self._decision.assigned:
            worker, entry = self._workers[worker_id], self._entries[task_id]
            why_not = self._obstacle(worker, entry.task, now_s)
            if why_not:
                self._held[task_id] = Wait(why_not, worker_id)
            else:
                self._assign(worker, entry, views[worker_id], now_s)
                idle -= worker.executor is self._local  # which is used again
        if idle > 0 and not self._trimming and self._is_short_of_memory():
            self._trimming = True
            self._nursery.start_soon(self._trim)

    def _is_short_of_memory(self) -> bool:
        """Whether the agent's own worker would have room for what waits if there were more memory."""
        load = Load(self._view(self._workers[self._local.id]))
        obstacles = (load.obstacle(group.at(0)[1]) for group in self._queue.groups())
        return any(one is not None and one.rule in _OF_MEMORY for one in obstacles)

    def _obstacle(self, worker: Connected, task: Task, now_s: float) -> str:
        """What keeps a task from a worker that has room for it."""
        limit = self._settings.limit
        if limit and worker.executor is self._local and _computes(task):
            busy = sum(_computes(entry.task) for entry in worker.entries.values())
            if busy >= limit:
                return f"needs a process, {limit} of {limit} that workers.count allows are busy"
        if worker.is_on_trial() and not worker.try_one(now_s):
            return "one task after another, since processes have died"
        return ""

    def _assign(self, worker: Connected, entry: Entry, view: WorkerView, now_s: float) -> None:
        self._unqueue(entry)
        task = entry.task
        worker.entries[task.id] = entry
        entry.worker = worker
        entry.started_s, entry.started_at = now_s, now_text()
        entry.memory_limit = admission.memory_limit(task, view) + task.requirement.base_min_memory
        entry.turn.set()

    async def _trim(self) -> None:
        """What waits may need the memory that idle processes hold."""
        try:
            await self._local.trim()
        finally:
            self._trimming = False
        self.poke()

    def _view(self, worker: Connected) -> WorkerView:
        settings = self._settings
        view = worker.view(trio.current_time(), reserve=settings.reserve, pressure=settings.pressure)
        own = AGENT_KINDS if worker.executor is self._local else frozenset()
        return replace(view, kinds=view.kinds - AGENT_KINDS | own)

    def _enforced(self, worker: Connected, entry: Entry) -> int:
        """The limit of a task's process, if it has one of its own."""
        is_enforced = worker.executor is self._local and self._local.level(entry.task.id)
        return entry.memory_limit if is_enforced else 0


def _computes(task: Task) -> bool:
    """Whether it counts against `workers.count`: what takes no CPU worth counting never waits for what takes hours."""
    return task.requirement.max_parallelism != 0


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
        nursery.start_soon(scheduler.decide_forever)
        yield scheduler
        nursery.cancel_scope.cancel()
