"""Machines that a test describes, and workers on them: real processes, and a scheduler that gives them tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from agent.resources import rule
from agent.resources.facts import Fact, Mode, Resource, Snapshot
from agent.scheduler.jobs import Estimate
from agent.scheduler.scheduler import Scheduler, Settings, open_scheduler
from agent.scheduler.table import KINDS
from agent.workers.local import Groups, LocalExecutor, open_local
from agent.workers.messages import Params

GIB = 1 << 30


def machine(*, memory: int = 64 * GIB, used: int = 0, cpus: int = 64) -> Snapshot:
    """The limits of a machine that nobody else uses, or as far as `used` says."""
    facts = [
        Fact(Resource.MEMORY, "host", "host", "MemTotal", "/proc/meminfo", memory, used),
        Fact(Resource.CPUS, "host", "host", "CPUs", "/proc/self/status", cpus * 1000),
    ]
    return rule.conclude(facts, (), Mode.NONE, None)


@dataclass
class Machine:
    """One whose limits a test can change."""

    now: Snapshot = field(default_factory=machine)

    def snapshot(self) -> Snapshot:
        return self.now


@dataclass
class Learned:
    """An `EstimateStore` in memory."""

    kept: dict[tuple[str, str], Estimate] = field(default_factory=dict)

    def estimates(self) -> list[Estimate]:
        return list(self.kept.values())

    def put_estimate(self, estimate: Estimate) -> None:
        self.kept[estimate.kind, estimate.size_class] = estimate


@dataclass(frozen=True)
class Working:
    """A scheduler and the processes that it has."""

    scheduler: Scheduler
    local: LocalExecutor
    machine: Machine
    learned: Learned

    @property
    def run(self) -> Callable[..., Awaitable[Params]]:
        return self.scheduler.run

    @property
    def pids(self) -> tuple[int, ...]:
        return self.local.pids()


@asynccontextmanager
async def working(
    *,
    limit: int = 1,
    idle_timeout_s: float = 10.0,
    on: Machine | None = None,
    learned: Learned | None = None,
    groups: Groups | None = None,
    settings: Settings | None = None,
) -> AsyncIterator[Working]:
    """Worker processes for the time of the block, `limit` of them at once."""
    settings = replace(settings or Settings(), limit=limit)
    machine, learned = on or Machine(), learned or Learned()
    async with (
        open_local(
            name="here", kinds=frozenset(KINDS), snapshot=machine.snapshot, disk_left=lambda: 1 << 50,
            groups=groups, idle_timeout_s=idle_timeout_s,
        ) as local,
        open_scheduler(local, store=learned, settings=settings) as scheduler,
    ):  # fmt: skip
        yield Working(scheduler, local, machine, learned)
