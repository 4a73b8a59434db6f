"""What the scheduler has at hand: tasks that have not ended, and workers that are connected."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import trio

from agent.dagstore import breaker
from agent.dagstore.breaker import HEALTHY, Breaker, BreakerState
from agent.dagstore.failures import ErrorClass
from agent.scheduler import seeing
from agent.scheduler.jobs import PREPARING, RUNNING, Job
from agent.scheduler.tasks import Phase, Running, Task, Wait, WorkerView
from agent.workers.executor import Executor

CRASHES = breaker.Limits(failures=5, pause_s=5.0, max_pause_s=300.0)
"""So many processes of a worker that die in a row, with no task done in between, are a loop."""


DONE = "done"


@dataclass(eq=False, slots=True)
class Entry:
    """A task that has not ended."""

    task: Task
    queued_at: str  # RFC 3339
    turn: trio.Event = field(default_factory=trio.Event)  # set when it is given to a worker, or called off
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)  # of what runs
    worker: Connected | None = None  # that it was given to
    started_s: float = 0.0
    started_at: str = ""
    done: int = 0
    total: int = 0
    memory_limit: int = 0  # of its process
    is_active: bool = False  # it has said so; a process shows it by the memory that it has
    is_lost: bool = False  # its worker went away
    called_off: str = ""  # why it does not go on
    outcome: str = (
        ErrorClass.CANCELLED.value
    )  # what is counted when it has ended: this, `DONE`, or a class of error

    @property
    def name(self) -> str:
        """For messages."""
        task = self.task
        return f"task {task.kind} of {task.subject}" if task.subject else f"task {task.kind}"

    def report(self, done: int, total: int) -> None:
        self.done, self.total = done, total

    def again(self, task: Task) -> None:
        """Has it wait anew, as `task`."""
        self.task = task
        self.turn, self.scope = trio.Event(), trio.CancelScope()
        self.is_lost = self.is_active = False
        self.done = self.total = 0

    def job(self, running: Running, worker: Executor, limit_bytes: int) -> Job:
        """As it is shown while it runs."""
        is_active = running.phase is Phase.ACTIVE
        return Job(
            self.task, running.phase, RUNNING if is_active else PREPARING, self.queued_at, self.started_at,
            worker.id, worker.name, self.done, self.total, running.used_bytes, limit_bytes,
        )  # fmt: skip

    def waiting_job(self, task: Task, place: int, wait: Wait | None) -> Job:
        """As it is shown while it waits; `task`: with what it needs by now."""
        return Job(task, None, place, self.queued_at, "", waiting=wait)


@dataclass(eq=False, slots=True)
class Connected:
    """A worker and what it was given."""

    executor: Executor
    enabled: bool = True
    is_lost: bool = False  # what it had was given up: it has to join anew
    entries: dict[str, Entry] = field(default_factory=dict)  # by task
    crashes: Breaker = HEALTHY

    def pause_s(self, now_s: float) -> float:
        """For how long it gets nothing new, since its processes die one after the other."""
        if self.crashes.state is BreakerState.CLOSED:
            return 0.0
        return max(0.0, self.crashes.until_s - now_s)

    def is_on_trial(self) -> bool:
        """Whether it gets one task after another, until one of them is done."""
        return self.crashes.state is not BreakerState.CLOSED

    def try_one(self, now_s: float) -> bool:
        """Whether it may get a task now, on trial."""
        self.crashes, wait_s = breaker.ask(self.crashes, CRASHES, now_s)
        return not wait_s

    def died(self, now_s: float, started_s: float) -> None:
        """A process of it died, of a task that was begun at `started_s`."""
        self.crashes = breaker.failed(self.crashes, CRASHES, now_s, started_s)

    def done(self) -> None:
        """A task of it has ended well."""
        self.crashes = breaker.succeeded(self.crashes)

    def running_of(self, entry: Entry) -> Running:
        used = self.executor.used_bytes(entry.task.id)
        phase = Phase.ACTIVE if used or entry.is_active else Phase.PREPARING
        return Running(entry.task, phase, used, entry.started_s)

    def running(self) -> tuple[Running, ...]:
        """What it was given, with what that uses now."""
        return tuple(map(self.running_of, self.entries.values()))

    def view(
        self, now_s: float, running: tuple[Running, ...], *, reserve: int, pressure: float
    ) -> WorkerView:
        """As it is seen by who decides; `running` was read before the limits were."""
        executor = self.executor
        view = seeing.view(
            id=executor.id, name=executor.name, kinds=executor.kinds, snapshot=executor.snapshot(),
            running=running, disk_left=executor.disk_left(), enabled=self.enabled and not self.is_lost,
            reserve=reserve, pressure=pressure,
        )  # fmt: skip
        pause_s = self.pause_s(now_s)
        if pause_s:
            many = f"{self.crashes.failures} processes in a row have died"
            return replace(view, pressed=f"{many}; nothing new for {pause_s:.0f} s")
        return view


class Admission:
    """Work inside the agent that was let in; `Scheduler.admitted`."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def begin(self) -> None:
        """What it needed is there: it is active from now on."""
        self._entry.is_active = True

    def report(self, done: int, total: int) -> None:
        self._entry.report(done, total)
