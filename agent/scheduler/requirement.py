"""What a task needs of a machine; Lotus' `storiface.Resources`, in its own words where it has them."""

from __future__ import annotations

import enum
from dataclasses import dataclass

PARALLEL_NUMERATOR, PARALLEL_DENOMINATOR = 92, 100  # of the CPUs, for a task that takes all it can get


class IoClass(enum.StrEnum):
    """How a task's requests to the disk stand beside those of others: ioprio_set(2)."""

    BEST_EFFORT = "best-effort"
    IDLE = "idle"  # only when nobody else wants the disk


@dataclass(frozen=True, slots=True)
class Requirement:
    """Sizes in bytes. The names are those of Lotus' fields, and with them of the environment variables that override
    them (MIN_MEMORY, MAX_MEMORY, …)."""

    min_memory: int  # without which it cannot run, of physical memory
    max_memory: int  # its peak, of memory and swap; what is reserved for it
    base_min_memory: int = 0  # shared by all tasks of the kind on one worker, held while any of them runs
    max_parallelism: int = 1  # threads; -1: 92 % of the CPUs, 0: it takes none worth counting
    max_concurrent: int = 0  # tasks of the kind at once on one worker; 0: any number
    disk: int = 0  # to be written below $CARFS_PATH
    io_class: IoClass = IoClass.BEST_EFFORT

    def threads(self, cpus: int) -> int:
        """Threads on a worker with so many CPUs."""
        if self.max_parallelism >= 0:
            return self.max_parallelism
        return max(1, cpus * PARALLEL_NUMERATOR // PARALLEL_DENOMINATOR) if cpus else 0
