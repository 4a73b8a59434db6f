"""Tasks and workers as programs get them: `Carfs.Tasks`, `Carfs.Status`, `.carfs/tasks.json`. Sizes in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import msgspec

from agent.scheduler.jobs import Estimate, Job, Scheduling
from agent.scheduler.tasks import Running, WorkerView
from agent.scheduler.utilisation import shares

WAITING = "waiting"


class TaskShown(msgspec.Struct, frozen=True, rename="pascal"):
    """One task that has not ended."""

    id: str = msgspec.field(name="ID")
    kind: str
    subject: str  # the shard or the file that it is about
    size_bytes: int  # of the data that it works on; 0: not known
    priority: int
    attempt: int
    state: str  # waiting, preparing or active
    place: int  # in the queue, from 1; 0: it does not wait
    queued_at: str
    started_at: str  # "" while it waits
    worker: str  # its id
    hostname: str
    done: int
    total: int
    needs_bytes: int  # of memory, at its peak
    used_bytes: int  # of memory, by its process now
    limit_bytes: int  # enforced on that; 0: none
    waits_for: str  # why it waits, in a sentence
    is_hopeless: bool  # it would wait if nothing else ran, too

    @classmethod
    def of(cls, job: Job, place: int) -> TaskShown:
        task, wait = job.task, job.waiting
        return cls(
            id=task.id, kind=task.kind, subject=task.subject, size_bytes=task.size_bytes, priority=task.priority,
            attempt=task.attempt, state=WAITING if job.phase is None else job.phase.value, place=place,
            queued_at=job.queued_at, started_at=job.started_at, worker=job.worker, hostname=job.hostname,
            done=job.done, total=job.total, needs_bytes=task.requirement.max_memory, used_bytes=job.used_bytes,
            limit_bytes=job.limit_bytes, waits_for="" if wait is None else wait.reason,
            is_hopeless=wait is not None and wait.is_hopeless,
        )  # fmt: skip


class WorkerShown(msgspec.Struct, frozen=True, rename="pascal"):
    """One worker: the agent's own processes, or a remote one."""

    id: str = msgspec.field(name="ID")  # of its session
    name: str
    is_enabled: bool
    kinds: list[str]
    memory_bytes: int  # its limit
    memory_used_bytes: int
    memory_tasks_bytes: int  # of that, by tasks
    memory_reserved_bytes: int  # of what is left: given to tasks, which do not use it yet
    memory_left_bytes: int
    memory_by: str  # what binds it
    swap_bytes: int
    swap_used_bytes: int
    cpus: int = msgspec.field(name="CPUs")
    cpus_used: int = msgspec.field(name="CPUsUsed")  # by tasks
    pids_left: int
    disk_left_bytes: int
    pressed: str  # why it is given nothing new although there is room; "": it is not so
    note: str  # of a remote one: why it can do nothing, or could not do something
    tasks: int

    @classmethod
    def of(cls, view: WorkerView) -> WorkerShown:
        memory = next(share for share in shares(view) if share.name == "RAM")
        return cls(
            id=view.id, name=view.name, is_enabled=view.enabled, kinds=sorted(view.kinds), memory_bytes=view.memory,
            memory_used_bytes=used(view.memory, view.memory_left), memory_tasks_bytes=memory.tasks,
            memory_reserved_bytes=memory.reserved, memory_left_bytes=max(0, view.memory_left),
            memory_by=view.memory_by, swap_bytes=view.swap, swap_used_bytes=used(view.swap, view.swap_left),
            cpus=view.cpus, cpus_used=threads(view), pids_left=view.pids_left, disk_left_bytes=view.disk_left,
            pressed=view.pressed, note=view.note, tasks=len(view.running),
        )  # fmt: skip


class Tasks(msgspec.Struct, frozen=True, rename="pascal"):
    """What is done and what waits, and where; `Tasks` has running ones first, then those that wait, in order."""

    at: str
    running: int  # those that are prepared, too
    waiting: int
    groups: str  # whether each process has a limit of its own, and why not
    workers: list[WorkerShown]
    tasks: list[TaskShown]

    @classmethod
    def of(cls, scheduling: Scheduling, at: str, limit: int) -> Tasks:
        """`limit` is for the list of tasks alone; 0: all of them."""
        tally = scheduling.tally()
        running, waiting = sum(tally.running.values()), sum(tally.waiting.values())
        jobs = scheduling.jobs(max(0, limit - running) if limit else None)
        shown = [
            TaskShown.of(job, 0 if job.phase is not None else number - running)
            for number, job in enumerate(islice(jobs, limit or None), 1)
        ]
        workers = [WorkerShown.of(view) for view in scheduling.workers()]
        return cls(at, running, waiting, scheduling.groups(), workers, shown)


class EstimateShown(msgspec.Struct, frozen=True, rename="pascal"):
    """What tasks of one kind and size were seen to take."""

    kind: str
    size_class: str
    peak_bytes: int
    tasks: int  # that this is from

    @classmethod
    def of(cls, estimate: Estimate) -> EstimateShown:
        return cls(estimate.kind, estimate.size_class, estimate.peak_bytes, estimate.tasks)


def used(limit: int, left: int) -> int:
    """What counts as used of a limit: all but what is left of it, and the one definition of it wherever it is shown
    (S-3: Lotus' list of workers counts what tasks use twice, and its sum may be more than there is)."""
    return max(0, limit - max(0, left))


def threads(view: WorkerView) -> int:
    """CPUs that the tasks on a worker were given."""
    return sum(one.task.requirement.threads(view.cpus) for one in view.running)


def reserved(running: Sequence[Running]) -> tuple[int, int]:
    """Memory that tasks were given: at least, and at their peak. What tasks of a kind share is counted once (S-2)."""
    shared: dict[str, int] = {}
    for one in running:
        needs = one.task.requirement
        shared[one.task.kind] = max(shared.get(one.task.kind, 0), needs.base_min_memory)
    base = sum(shared.values())
    least = sum(one.task.requirement.min_memory for one in running)
    most = sum(one.task.requirement.max_memory for one in running)
    return base + least, base + most
