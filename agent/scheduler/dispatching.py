"""Decides again and again which of the tasks that wait begins where, and begins it.

What may begin is decided in `deciding`, of values that are made here at each event: a task came or ended, a worker came
or went, limits changed, or a second has passed while something waits. Between two awaits everything here is atomic.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import trio

from agent.dagstore.records import now_text
from agent.metrics import Metrics
from agent.scheduler import admission, deciding, overrides, seeing, table
from agent.scheduler.admission import Load
from agent.scheduler.entries import Connected, Entry
from agent.scheduler.jobs import ASSIGNED, Job, Tally
from agent.scheduler.needs import Requirements
from agent.scheduler.order import DEFAULT_POLICY, Policy, Queue
from agent.scheduler.overrides import Overrides
from agent.scheduler.stuck import Stuck
from agent.scheduler.tasks import Decision, Running, Task, Wait, WorkerView
from agent.workers.executor import Distant, Executor

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0
"""Between two looks at the limits while something waits."""
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
        """How many processes have nothing to do."""

    def idle_bytes(self) -> int:
        """Memory that those hold; it goes to the next tasks, or is given back for them."""

    def make_room(self, memory_bytes: int, *, keep: int) -> None:
        """Ends idle processes until so much less is held, but for `keep` of them; no task begins before that."""

    def level(self, task_id: str) -> str:
        """The group of a task's process; "": it has no limit of its own."""

    def confinement(self) -> str:
        """Whether each process has a limit of its own, and why not, in a sentence."""


class Dispatcher:
    """The tasks that wait, and the workers that they may be given to."""

    def __init__(
        self,
        local: Local,
        *,
        refresh: Callable[[], object],
        requirements: Requirements,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self._local = local
        self._refresh = refresh
        self._requirements = requirements
        self._settings = settings
        self._metrics = metrics
        self.workers: dict[str, Connected] = {local.id: Connected(local)}  # the agent's own first
        self._entries: dict[str, Entry] = {}  # that wait, by task
        self._queue = Queue(settings.policy)
        self._queue.revise(requirements.of)
        self._decision = Decision()  # the last one
        self._held: dict[str, Wait] = {}  # what it would have begun, and we did not
        self._poked = trio.Event()
        self._stuck = Stuck(settings.policy.patience_s)
        self.passes = 0  # how often it was decided

    def __len__(self) -> int:
        """How many tasks wait."""
        return len(self._queue)

    # Tasks come, are called off, and end

    def add(self, entry: Entry) -> None:
        """It waits from now on; `entry.turn` is set once it is given to a worker."""
        self._entries[entry.task.id] = entry
        self._queue.add(entry.task)
        alike = self._queue.group_of(entry.task.id)
        if alike is None or len(alike) == 1:  # else one like it waits, and so does this one
            self.poke()

    def again(self, entry: Entry, **changes: Any) -> None:  # Any: as the field of Task is
        """A task that was begun waits anew, with these changes."""
        self.give_back(entry)
        entry.again(replace(entry.task, **changes))
        self.add(entry)

    def take_out(self, entry: Entry) -> None:
        """It waits no more; harmless if it did not."""
        self._held.pop(entry.task.id, None)
        if self._entries.pop(entry.task.id, None) is not None:
            entry.task = self._queue.remove(entry.task.id)  # with what it needs by now

    def hurry(self, kind: str, subject: str, priority: int) -> None:
        """Raises the priority of what waits of that kind about that subject."""
        for entry in list(self._entries.values()):
            task = entry.task
            if (task.kind, task.subject) == (kind, subject) and task.priority < priority:
                self.take_out(entry)
                entry.task = replace(entry.task, priority=priority)
                self.add(entry)

    def give_back(self, entry: Entry) -> None:
        """Its worker has it no more; harmless if none had it."""
        if entry.worker is not None:
            del entry.worker.entries[entry.task.id]
            entry.worker = None
        self.poke()

    def revise(self) -> None:
        """Something was learned of what tasks need."""
        self._queue.revise(self._requirements.of)

    def poke(self) -> None:
        """Something has changed: decide anew, soon. Cheap; many in one turn are one."""
        self._poked.set()

    # What is so now

    def views(self) -> list[WorkerView]:
        """The workers as they are seen."""
        return [self._view(worker, worker.running()) for worker in self.workers.values()]

    def running_jobs(self) -> Iterator[Job]:
        """Tasks that were given to workers."""
        for worker in self.workers.values():
            for entry in worker.entries.values():
                is_enforced = worker.executor is self._local and self._local.level(entry.task.id)
                limit_bytes = entry.memory_limit if is_enforced else 0
                yield entry.job(worker.running_of(entry), worker.executor, limit_bytes)

    def waiting_jobs(self, count: int | None = None) -> Iterator[Job]:
        """Those that wait, in order, each with why; the first so many, if that is said."""
        waits = self._decision.waiting
        for place, task in enumerate(self._queue if count is None else self._queue.first(count), ASSIGNED):
            wait = self._held.get(task.id) or waits.get(task.id)
            yield self._entries[task.id].waiting_job(task, place, wait)

    def tally(self) -> Tally:
        """How many there are, without looking at each that waits."""
        running = Counter(
            (entry.task.kind, worker.running_of(entry).phase)
            for worker in self.workers.values()
            for entry in worker.entries.values()
        )
        waiting: Counter[str] = Counter()
        hopeless = 0
        for group in self._queue.groups():  # one of them fits nowhere if none does
            _, first = group.at(0)
            waiting[first.kind] += len(group)
            wait = self._decision.waiting.get(first.id)
            hopeless += len(group) if wait is not None and wait.is_hopeless else 0
        return Tally(running, waiting, hopeless)

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
            self._make_room()
            return
        self.passes += 1
        running = {worker_id: worker.running() for worker_id, worker in self.workers.items()}
        self._refresh()  # the limits after what is used, so that what tasks take in between counts twice at most
        now_s = trio.current_time()
        views = {
            worker_id: self._view(worker, running[worker_id]) for worker_id, worker in self.workers.items()
        }
        self._decision = deciding.decide(self._queue, list(views.values()), now_s, self._settings.policy)
        for task_id, worker_id in self._decision.assigned:
            worker, entry = self.workers[worker_id], self._entries[task_id]
            why_not = self._obstacle(worker, entry.task, now_s)
            if why_not:
                self._held[task_id] = Wait(why_not, worker_id)
            else:
                self._assign(worker, entry, views[worker_id], now_s)
        for news in self._stuck.news(self._queue, self._decision.waiting, now_s):
            logger.warning("%s", news)
        self._make_room()

    def _make_room(self) -> None:
        """Has idle processes end if what they hold is reserved for what runs, or there is nothing left without it."""
        if not self._local.idle():
            return
        worker = self.workers[self._local.id]
        running = worker.running()
        load = Load(self._view(worker, running))
        held = self._local.idle_bytes()
        left = max(0, load.worker.memory_left - held)
        lacking = load.promised - left - load.worker.swap_left if left else held
        if lacking > 0:
            begins = sum(not one.used_bytes and one.task.kind not in AGENT_KINDS for one in running)
            self._local.make_room(lacking, keep=begins)

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
        self.take_out(entry)
        task = entry.task
        worker.entries[task.id] = entry
        entry.worker = worker
        entry.started_s, entry.started_at = now_s, now_text()
        self._metrics.task_began(task.kind, now_s - task.queued_s)
        entry.memory_limit = admission.memory_limit(task, view) + task.requirement.base_min_memory
        self._stuck.begun(task)
        entry.turn.set()

    def _view(self, worker: Connected, running: tuple[Running, ...]) -> WorkerView:
        settings = self._settings
        view = worker.view(trio.current_time(), running, reserve=settings.reserve, pressure=settings.pressure)
        if worker.executor is self._local:
            left = min(view.memory, view.memory_left + self._local.idle_bytes())
            return replace(view, kinds=view.kinds | AGENT_KINDS, memory_left=left)
        note = worker.executor.note if isinstance(worker.executor, Distant) else ""
        return replace(view, kinds=view.kinds - AGENT_KINDS, note=note)


def _computes(task: Task) -> bool:
    """Whether it counts against `workers.count`: what takes no CPU worth counting never waits for what takes hours."""
    return task.requirement.max_parallelism != 0
