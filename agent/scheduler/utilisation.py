"""How full a worker is, with one meaning of "used" for choosing it and for the bars that are shown.

What is used is what the limit has less than its headroom: by tasks and by others, each counted once (S-1, S-3). What is
reserved and not yet used comes on top.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.scheduler.admission import Load
from agent.scheduler.tasks import WorkerView


@dataclass(frozen=True, slots=True)
class Share:
    """How one resource of a worker is used; the parts never make more than the total."""

    name: str  # "CPU", "RAM" or "VMEM", Lotus' names of its bars
    total: int  # CPUs, or bytes
    others: int  # used by what is no task
    tasks: int  # used by tasks
    reserved: int  # for tasks, which do not use it yet

    @property
    def used(self) -> int:
        return self.others + self.tasks

    @property
    def ratio(self) -> float:
        """Of the total, used or reserved: 0 to 1."""
        return (self.used + self.reserved) / self.total if self.total else 1.0


def shares(worker: WorkerView) -> tuple[Share, ...]:
    """CPU, RAM and VMEM (memory and swap) of a worker."""
    return _shares(Load(worker))


def of(load: Load) -> float:
    """The fullest of a worker's resources: 0 to 1."""
    return max(share.ratio for share in _shares(load))


def _shares(load: Load) -> tuple[Share, ...]:
    worker = load.worker
    promised_min = load.unused_min + load.base_memory
    return (
        _share("CPU", worker.cpus, 0, load.threads, 0),
        _share("RAM", worker.memory, load.memory_used, load.task_bytes, promised_min),
        _share(
            "VMEM",
            worker.memory + worker.swap,
            load.memory_used + load.swap_used,
            load.task_bytes,
            load.promised,
        ),
    )


def _share(name: str, total: int, used: int, by_tasks: int, promised: int) -> Share:
    """Tasks and others are seen at different moments: what tasks use is never more than what is used."""
    if name == "CPU":
        used = by_tasks
    used = min(total, used)
    tasks = min(used, by_tasks)
    return Share(name, total, used - tasks, tasks, min(total - used, promised))
