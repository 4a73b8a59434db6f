"""A worker whose tasks end when a test says so, and a scheduler over it; no processes, no clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from agent.resources.facts import Snapshot
from agent.scheduler.scheduler import Scheduler, Settings, open_scheduler
from agent.scheduler.table import KINDS
from agent.scheduler.tasks import Task
from agent.workers import Done, Needs
from tests.agent.machines import Learned, Machine

PARAMS: dict[str, Any] = {}  # JSON


@dataclass(eq=False)
class Act:
    """A task on stage."""

    task: Task
    memory_limit: int
    told: trio.Event = field(default_factory=trio.Event)
    outcome: Done | Exception = field(default_factory=lambda: Done({"done": True}, 0))

    def end(self, outcome: Done | Exception | None = None) -> None:
        self.outcome = outcome or self.outcome
        self.told.set()


class Puppet:
    """A `scheduler.Local` that does what the test says."""

    def __init__(self, machine: Machine, id: str = "local") -> None:
        self.id = self.name = id
        self.kinds = frozenset(KINDS)
        self.snapshot: Callable[[], Snapshot] = machine.snapshot
        self.acts: list[Act] = []
        self.used: dict[str, int] = {}  # by subject
        self.begun: list[str] = []  # subjects
        self.cancelled: list[str] = []
        self.idles = 0  # idle processes
        self.each_idle = 0  # bytes that each of these holds

    def disk_left(self) -> int:
        return 1 << 50

    def used_bytes(self, task_id: str) -> int:
        return next((self.used.get(act.task.subject, 1) for act in self.acts if act.task.id == task_id), 0)

    async def execute(
        self,
        task: Task,
        params: dict[str, Any],
        progress: Callable[[int, int], None] | None,
        needs: Needs | None,
        *,
        memory_limit: int,
    ) -> Done:
        act = Act(task, memory_limit)
        self.acts.append(act)
        self.begun.append(task.subject)
        if progress is not None:
            progress(1, 2)
        try:
            await act.told.wait()
        except trio.Cancelled:
            self.cancelled.append(task.subject)
            raise
        finally:
            self.acts.remove(act)
        if isinstance(act.outcome, Exception):
            raise act.outcome
        return act.outcome

    def act(self, subject: str) -> Act:
        (found,) = [act for act in self.acts if act.task.subject == subject]
        return found

    def idle(self) -> int:
        return self.idles

    def idle_bytes(self) -> int:
        return self.idles * self.each_idle

    def make_room(self, memory_bytes: int, *, keep: int) -> None:
        lacking = memory_bytes - keep * self.each_idle
        self.idles -= max(0, min(self.idles - keep, -(-lacking // self.each_idle)))

    def level(self, task_id: str) -> str:
        return ""

    def confinement(self) -> str:
        return "these are puppets"


class Stage:
    """A scheduler, its worker, and what became of tasks."""

    def __init__(
        self, nursery: trio.Nursery, scheduler: Scheduler, puppet: Puppet, machine: Machine, learned: Learned
    ) -> None:
        self.nursery = nursery
        self.scheduler = scheduler
        self.puppet = puppet
        self.machine = machine
        self.learned = learned
        self.outcomes: dict[str, object] = {}

    async def begin(self, subject: str, kind: str = "index", **more: Any) -> None:  # Any: as of `run`
        """Asks for a task, and waits until nothing happens any more."""
        self.ask(subject, kind, **more)
        await wait_all_tasks_blocked()

    def ask(self, subject: str, kind: str = "index", **more: Any) -> None:  # likewise
        self.nursery.start_soon(self._run, subject, kind, more)

    async def _run(self, subject: str, kind: str, more: dict[str, Any]) -> None:
        try:
            self.outcomes[subject] = await self.scheduler.run(kind, PARAMS, subject=subject, **more)
        except Exception as error:
            self.outcomes[subject] = error

    async def end(self, subject: str, outcome: Done | Exception | None = None) -> None:
        self.puppet.act(subject).end(outcome)
        await wait_all_tasks_blocked()

    def id_of(self, subject: str) -> str:
        (found,) = [job.task.id for job in self.scheduler.jobs() if job.task.subject == subject]
        return found

    def reason(self, subject: str) -> str:
        (found,) = [job.waiting for job in self.scheduler.jobs() if job.task.subject == subject]
        return "" if found is None else found.reason


@asynccontextmanager
async def staged(
    settings: Settings | None = None, *, on: Machine | None = None, learned: Learned | None = None
) -> AsyncIterator[Stage]:
    """A stage for the time of the block; tasks that have not ended by then are called off."""
    machine, learned = on or Machine(), learned or Learned()
    puppet = Puppet(machine)
    async with (
        open_scheduler(puppet, store=learned, settings=settings) as scheduler,
        trio.open_nursery() as nursery,
    ):
        yield Stage(nursery, scheduler, puppet, machine, learned)
        nursery.cancel_scope.cancel()
