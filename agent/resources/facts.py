"""The facts that sources of limits find, and what follows from them.

A `Fact` is one limit at one level, as one file says it. `rule.conclude` makes a `Snapshot` of them: the smallest limit
and the smallest headroom of each resource, each with the fact that binds. Nothing here reads a file or has a clock.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Resource(enum.StrEnum):
    """What is limited, and in which unit."""

    MEMORY = "memory"  # bytes
    SWAP = "swap"  # bytes
    CPUS = "cpus"  # thousandths of a CPU
    PIDS = "pids"  # processes and threads


class Mode(enum.StrEnum):
    """Which cgroup hierarchy has the memory controller for this process."""

    V1 = "v1"
    V2 = "v2"
    HYBRID = "hybrid"  # v1, with a mounted cgroup2 that has no memory controller
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Fact:
    """One limit at one level."""

    resource: Resource
    source: str  # the function that found it: "host", "cgroup-v2", "cgroup-v1", "rlimit", "config"
    level: (
        str  # whose limit it is: "host", "process", "config", or a cgroup: "system.slice/carfs.service", "/"
    )
    name: str  # as the kernel or the configuration spells it: "memory.max", "MemTotal", "RLIMIT_AS", "resources.memory"
    file: str  # where it was read; "" for what comes from no file
    limit: int | None  # in the resource's unit; None: it says that there is no limit
    used: int | None = None  # at that level, without what the kernel can drop at once; None: not known there
    is_soft: bool = False  # memory.high: whoever is over it is slowed down, not killed
    note: str = ""  # for people: what `used` is made of, why a value was left out


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that should have said something and did not."""

    source: str
    file: str
    message: str


@dataclass(frozen=True, slots=True)
class Bound:
    """What holds for one resource."""

    limit: int | None = None  # the smallest; None: nothing limits it
    limit_by: Fact | None = None
    headroom: int | None = None  # the smallest limit - used, never below 0; None: no level knows both
    headroom_by: Fact | None = None

    @property
    def used(self) -> int:
        """What counts as used of `limit`: all but the headroom, whichever level that is of."""
        if self.limit is None or self.headroom is None:
            return 0
        return max(0, self.limit - self.headroom)


@dataclass(frozen=True, slots=True)
class Pressure:
    """How long tasks have been waiting for memory (PSI), in percent of the time, and whose file says so."""

    some_10s: float
    full_10s: float
    level: str
    file: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All limits at one moment."""

    mode: Mode
    facts: tuple[Fact, ...]
    problems: tuple[Problem, ...]
    memory: Bound
    swap: Bound
    cpus: Bound
    pids: Bound
    pressure: Pressure | None  # of the tightest level that has it; None: the kernel has no PSI
