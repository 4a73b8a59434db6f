"""Tasks and workers for tests of decisions, with a clock of their own: what is assigned runs until it is ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from agent.scheduler import table
from agent.scheduler.deciding import decide
from agent.scheduler.order import DEFAULT_POLICY, Policy, Queue
from agent.scheduler.requirement import Requirement
from agent.scheduler.tasks import Decision, Phase, Running, Task, Wait, WorkerView

MIB, GIB = 1 << 20, 1 << 30
BY = "system.slice/carfs.service memory.max"


def needs(
    memory: int, *, least: int = 0, threads: int = 1, base: int = 0, at_once: int = 0, disk: int = 0
) -> Requirement:
    """Sizes in MiB; it can do with `least`, or with nothing less than `memory`."""
    return Requirement(
        min_memory=(least or memory) * MIB, max_memory=memory * MIB, base_min_memory=base * MIB,
        max_parallelism=threads, max_concurrent=at_once, disk=disk * MIB,
    )  # fmt: skip


def task(
    id: str, needs: Requirement, *, kind: str = "index", priority: int = 0, at: float = 0.0,
    sequence: int = 0, size: int = 0, attempt: int = 1, barred: Iterable[str] = (),
) -> Task:  # fmt: skip
    number = sequence or int("".join(filter(str.isdigit, id)) or 0)
    return Task(id, kind, f"shard-{id}", size, priority, needs, number, at, frozenset(barred), attempt)


def worker(
    id: str = "w", memory: int = 1024, left: int | None = None, *, cpus: int = 8, swap: int = 0,
    running: Iterable[Running] = (), kinds: Iterable[str] = table.KINDS, enabled: bool = True,
    pids: int = 1000, disk: int = 1 << 20, pressed: str = "",
) -> WorkerView:  # fmt: skip
    """Sizes in MiB; `left` is all of `memory` where it is not said."""
    return WorkerView(
        id, f"host-{id}", frozenset(kinds), enabled, memory * MIB, (memory if left is None else left) * MIB, BY,
        swap * MIB, swap * MIB, cpus, pids, disk * MIB, pressed, tuple(running),
    )  # fmt: skip


def running(one: Task, used: int = 0, phase: Phase = Phase.ACTIVE) -> Running:
    """A task that uses so many MiB now."""
    return Running(one, phase, used * MIB, 0.0)


def reason(decision: Decision, id: str) -> str:
    return decision.waiting[id].reason


@dataclass
class Machines:
    """Workers that run what they are given, and a queue."""

    workers: list[WorkerView]
    policy: Policy = DEFAULT_POLICY
    now_s: float = 0.0
    log: list[str] = field(default_factory=list)
    """`task@worker` in the order in which they began."""

    def __post_init__(self) -> None:
        self.queue = Queue(self.policy)
        self.running: dict[str, tuple[Task, str]] = {}
        self.waiting: dict[str, Wait] = {}

    def add(self, *tasks: Task) -> Machines:
        for one in tasks:
            self.queue.add(replace(one, queued_s=self.now_s))
        return self.look()

    def end(self, *ids: str) -> Machines:
        for id in ids:
            del self.running[id]
        return self.look()

    def wait(self, seconds: float) -> Machines:
        self.now_s += seconds
        return self.look()

    def view(self, one: WorkerView) -> WorkerView:
        """As it is now; what runs uses nothing yet."""
        here = [running(task) for task, worker_id in self.running.values() if worker_id == one.id]
        return replace(one, running=tuple(here))

    def look(self) -> Machines:
        decision = decide(self.queue, [self.view(one) for one in self.workers], self.now_s, self.policy)
        self.waiting = {id: decision.waiting[id] for id in decision.waiting}
        for id, worker_id in decision.assigned:
            self.running[id] = self.queue.remove(id), worker_id
            self.log.append(f"{id}@{worker_id}")
        return self
