"""Workers and tasks in the JSON of Lotus' storage miner, so that its clients show them. Pure.

Lotus' tasks are about a sector of a miner; ours are about a shard or a file, which is `Subject` here. `Sector` is there
for clients that need one: miner 0, and the number of the task since the agent began. Seal proofs are of sizes of
sectors; a task's size class has the number of the proof that goes with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from agent.scheduler import table
from agent.scheduler.document import reserved, threads, used
from agent.scheduler.jobs import Job
from agent.scheduler.overrides import Overrides
from agent.scheduler.requirement import Requirement
from agent.scheduler.tasks import WorkerView

NO_WORKER = "00000000-0000-0000-0000-000000000000"
PROOFS = {"2K": 0, "8M": 1, "512M": 2, "32G": 3, "64G": 4}  # Lotus' StackedDrg…V1


class SectorId(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' SectorID."""

    miner: int = 0
    number: int = 0


class CallId(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' CallID."""

    sector: SectorId
    id: str = msgspec.field(name="ID")


class LotusRequirement(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' Resources of one kind of task; we have nothing for GPUs."""

    min_memory: int
    max_memory: int
    base_min_memory: int
    max_parallelism: int
    max_concurrent: int
    gpu_utilization: float = msgspec.field(name="GPUUtilization", default=0.0)
    max_parallelism_gpu: int = msgspec.field(name="MaxParallelismGPU", default=0)

    @classmethod
    def of(cls, one: Requirement) -> LotusRequirement:
        return cls(
            one.min_memory, one.max_memory, one.base_min_memory, one.max_parallelism, one.max_concurrent
        )


class WorkerResources(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' WorkerResources: what limits the worker, whichever level that is of."""

    mem_physical: int
    mem_used: int
    mem_swap: int
    mem_swap_used: int
    cpus: int = msgspec.field(name="CPUs")
    gpus: list[str] = msgspec.field(name="GPUs", default_factory=list)
    resources: dict[str, dict[str, LotusRequirement]] | None = (
        None  # by kind and proof; null: as in the table
    )


class WorkerInfo(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' WorkerInfo."""

    hostname: str
    ignore_resources: bool
    resources: WorkerResources


class WorkerStats(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' WorkerStats."""

    info: WorkerInfo
    tasks: list[str]
    enabled: bool
    mem_used_min: int
    mem_used_max: int
    gpu_used: float
    cpu_use: int
    task_counts: dict[str, int]  # "proof:kind"

    @classmethod
    def of(cls, view: WorkerView, overrides: Overrides) -> WorkerStats:
        resources = WorkerResources(
            view.memory, used(view.memory, view.memory_left), view.swap, used(view.swap, view.swap_left), view.cpus,
            resources=_by_proof(overrides),
        )  # fmt: skip
        least, most = reserved(view.running)
        counts = Counter(f"{_proof(one.task.size_bytes)}:{one.task.kind}" for one in view.running)
        info = WorkerInfo(view.name, False, resources)
        return cls(
            info, sorted(view.kinds), view.enabled, least, most, 0.0, threads(view), dict(sorted(counts.items()))
        )  # fmt: skip


class WorkerJob(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' WorkerJob; `Subject` is ours."""

    id: CallId = msgspec.field(name="ID")
    sector: SectorId
    task: str
    run_wait: int  # 0 running, 1 preparing, 2 and more: its place in the queue + 1
    start: str  # of one that waits, since when it does
    hostname: str
    subject: str

    @classmethod
    def of(cls, job: Job) -> WorkerJob:
        sector = SectorId(number=job.task.sequence)
        call = CallId(sector, job.task.id)
        start = job.started_at or job.queued_at
        return cls(call, sector, job.task.kind, job.run_wait, start, job.hostname, job.task.subject)


class Request(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' SchedDiagRequestInfo; `Subject` and `WaitsFor` are ours."""

    sector: SectorId
    task_type: str
    priority: int
    sched_id: str
    subject: str
    waits_for: str

    @classmethod
    def of(cls, job: Job) -> Request:
        task, reason = job.task, "" if job.waiting is None else job.waiting.reason
        return cls(SectorId(number=task.sequence), task.kind, task.priority, task.id, task.subject, reason)


class SchedInfo(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' SchedDiagInfo; nothing is promised to a worker before it is begun, so there are no windows."""

    requests: list[Request]
    open_windows: list[str]


class SchedDiag(msgspec.Struct, frozen=True, rename="pascal"):
    """What Lotus' SealingSchedDiag gives. Only `SchedInfo` has something to say: results go to who waits for them."""

    sched_info: SchedInfo
    returned_work: list[str] = msgspec.field(default_factory=list)
    waiting: list[str] = msgspec.field(default_factory=list)
    call_to_work: dict[str, str] = msgspec.field(default_factory=dict)
    early_ret: list[str] = msgspec.field(default_factory=list)

    @classmethod
    def of(cls, jobs: Sequence[Job]) -> SchedDiag:
        return cls(SchedInfo([Request.of(job) for job in jobs if job.phase is None], []))


def jobs_by_worker(jobs: Iterable[Job]) -> dict[str, list[WorkerJob]]:
    """Lotus' WorkerJobs; what waits has no worker yet."""
    found: dict[str, list[WorkerJob]] = {}
    for job in jobs:
        found.setdefault(job.worker or NO_WORKER, []).append(WorkerJob.of(job))
    return found


def _proof(size_bytes: int) -> int:
    """The number of the smallest proof whose sectors hold so much; beyond all of them, that of the largest."""
    return PROOFS[table.size_class(size_bytes)]


def _by_proof(overrides: Overrides) -> dict[str, dict[str, LotusRequirement]] | None:
    """What holds for the kinds that something is said of; None: for none."""
    said = [
        kind
        for kind in table.KINDS.values()
        if any(variable.startswith(f"{kind.short}_") for variable in overrides.values)
    ]
    found = {
        kind.name: {
            str(PROOFS[name]): LotusRequirement.of(overrides.apply(kind.name, size, kind.requirement(size)))
            for name, size in table.SIZE_CLASSES.items()
        }
        for kind in said
    }
    return found or None
