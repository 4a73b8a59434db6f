"""A scheduler that shows what a test says, and remembers what it was told to do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from agent.dagstore.failures import ErrorClass, ShardError
from agent.resources.facts import Bound, Fact, Mode, Pressure, Problem, Resource, Snapshot
from agent.scheduler.jobs import ASSIGNED, RUNNING, Counts, Estimate, Job, Tally
from agent.scheduler.overrides import Overrides, from_environment
from agent.scheduler.requirement import Requirement
from agent.scheduler.tasks import Phase, Running, Task, Wait, WorkerView

MIB = 1 << 20
GIB = 1 << 30
LOCAL = "6f5902ac-2374-4bdd-8b3b-6a0d3b2b1d3e"
REMOTE = "b1d3e6f5-902a-4c23-94bd-d8b3b6a0d3b2"
AT = "2026-01-31T12:00:00.000000Z"
LIMIT = Fact(
    Resource.MEMORY, "cgroup-v2", "system.slice/carfs.service", "memory.max",
    "/sys/fs/cgroup/system.slice/carfs.service/memory.max", 8 * GIB, 5 * GIB,
)  # fmt: skip
HOST = Fact(Resource.MEMORY, "host", "host", "MemTotal", "/proc/meminfo", 64 * GIB, 30 * GIB)
CPUS = Fact(Resource.CPUS, "host", "host", "sched_getaffinity", "", 4000)
PIDS = Fact(
    Resource.PIDS, "cgroup-v2", "system.slice", "pids.max", "/sys/fs/cgroup/system.slice/pids.max", 4096, 100
)
PROBLEM = Problem("cgroup-v2", "/sys/fs/cgroup/system.slice/memory.high", "Permission denied")
SNAPSHOT = Snapshot(
    mode=Mode.V2,
    facts=(HOST, LIMIT, CPUS, PIDS),
    problems=(PROBLEM,),
    memory=Bound(8 * GIB, LIMIT, 3 * GIB, LIMIT),
    swap=Bound(),
    cpus=Bound(4000, CPUS),
    pids=Bound(4096, PIDS, 3996, PIDS),
    pressure=Pressure(1.5, 0.25, LIMIT.level, LIMIT.file.replace(".max", ".pressure")),
)  # fmt: skip
INDEX = Requirement(100 * MIB, 512 * MIB, base_min_memory=32 * MIB)


def task(number: int, kind: str = "index", **more: Any) -> Task:  # Any: fields of Task
    """The task with this number, about a shard of that name."""
    made = Task(
        id=f"{number:08x}-7c1e-4f0a-9d0e-000000000000", kind=kind, subject=f"shard-{number}", size_bytes=GIB,
        priority=0, requirement=INDEX, sequence=number, queued_s=0.0,
    )  # fmt: skip
    return replace(made, **more)


def running(number: int, **more: Any) -> Job:
    """Half done, in the agent's own worker."""
    return Job(
        task(number, **more), Phase.ACTIVE, RUNNING, AT, AT, LOCAL, "agent-host", GIB // 2, GIB, 200 * MIB, 512 * MIB
    )  # fmt: skip


def waiting(number: int, place: int = 1, **more: Any) -> Job:
    """For want of memory."""
    reason = "needs 512 MiB, headroom 310 MiB under system.slice/carfs.service memory.max"
    return Job(task(number, **more), None, ASSIGNED + place - 1, AT, "", waiting=Wait(reason, LOCAL))


def worker(*jobs: Job, **more: Any) -> WorkerView:
    """The agent's own, doing that."""
    view = WorkerView(
        id=LOCAL, name="agent-host", kinds=frozenset({"index", "verify", "commp"}), enabled=True, memory=8 * GIB,
        memory_left=3 * GIB, memory_by="system.slice/carfs.service memory.max", swap=GIB, swap_left=GIB, cpus=4,
        pids_left=3996, disk_left=100 * GIB, running=tuple(
            Running(job.task, job.phase, job.used_bytes, 0.0) for job in jobs if job.phase is not None
        ),
    )  # fmt: skip
    return replace(view, **more)


@dataclass
class FakeScheduler:
    """A `Scheduling` of given values; `told` has what it was asked to do."""

    given: tuple[Job, ...] = ()
    limits: Snapshot = SNAPSHOT
    views: tuple[WorkerView, ...] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    told: list[tuple[str, str]] = field(default_factory=list)

    def snapshot(self) -> Snapshot:
        return self.limits

    def workers(self) -> tuple[WorkerView, ...]:
        return (worker(*self.given),) if self.views is None else self.views

    def jobs(self, waiting: int | None = None) -> tuple[Job, ...]:
        queued = [job for job in self.given if job.phase is None]
        return (*(job for job in self.given if job.phase is not None), *queued[:waiting])

    def tally(self) -> Tally:
        running = Counter((job.task.kind, job.phase) for job in self.given if job.phase is not None)
        waiting = Counter(job.task.kind for job in self.given if job.phase is None)
        hopeless = sum(job.waiting is not None and job.waiting.is_hopeless for job in self.given)
        return Tally(running, waiting, hopeless)

    def counts(self) -> Counts:
        waiting = sum(job.phase is None for job in self.given)
        return Counts(len(self.given) - waiting, 0, waiting, 4)

    def estimates(self) -> tuple[Estimate, ...]:
        return (Estimate("index", "32G", 300 * MIB, 7),)

    def overrides(self) -> Overrides:
        return from_environment(self.environment)

    def groups(self) -> str:
        return "each process is in a group of its own"

    def abort(self, task_id: str) -> None:
        self._find(task_id, is_running=True)
        self.told.append(("abort", task_id))

    def remove(self, task_id: str) -> None:
        self._find(task_id, is_running=False)
        self.told.append(("remove", task_id))

    def set_enabled(self, worker: str, enabled: bool) -> None:
        if worker not in {view.id for view in self.workers()}:
            raise ShardError(ErrorClass.NOT_FOUND, f"no worker has the id {worker!r}")
        self.told.append(("enable" if enabled else "disable", worker))

    def _find(self, task_id: str, *, is_running: bool) -> None:
        found = {job.task.id: job.phase is not None for job in self.given}
        if task_id not in found or found[task_id] < is_running:
            raise ShardError(
                ErrorClass.NOT_FOUND, f"no task {'runs' if is_running else 'waits'} as {task_id!r}"
            )
        if found[task_id] > is_running:
            raise ShardError(ErrorClass.BUSY, f"task {task_id!r} runs already")
