"""A worker as the scheduler sees it, from the limits of the moment and what runs."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from agent.resources.facts import Bound, Fact, Resource, Snapshot
from agent.resources.rule import bound
from agent.resources.sources.host import SOURCE as HOST
from agent.scheduler.tasks import Running, WorkerView

UNLIMITED: Final = 1 << 62
"""Where nothing limits."""
RESERVE_BYTES: Final = 32 << 20
PRESSURE_PERCENT: Final = 10.0
SHORT_PARTS: Final = 4
"""Memory is short where less than one of so many parts of the limit is left."""
MACHINE_SHORT_PARTS: Final = 10
"""Likewise the machine's, the pressure of which is also that of whoever fights with a limit of his own."""


@dataclass(frozen=True, slots=True)
class WorkerResources:
    """What Lotus' workers publish of themselves; sizes in bytes."""

    mem_physical: int
    mem_used: int
    mem_swap: int
    mem_swap_used: int
    cpus: int


def view(
    *,
    id: str,
    name: str,
    kinds: AbstractSet[str],
    snapshot: Snapshot,
    running: Sequence[Running] = (),
    disk_left: int = UNLIMITED,
    enabled: bool = True,
    reserve: int = RESERVE_BYTES,
    pressure: float = PRESSURE_PERCENT,
) -> WorkerView:
    """The worker; `reserve` bytes of its headroom are kept free, and from `pressure` percent on nothing begins.

    What running tasks use should have been read before the limits were: then what one takes in between is counted
    twice, and never not at all.
    """
    memory, swap, pids = snapshot.memory, snapshot.swap, snapshot.pids
    return WorkerView(
        id=id,
        name=name,
        kinds=frozenset(kinds),
        enabled=enabled,
        memory=_limit(memory, UNLIMITED),
        memory_left=max(0, _left(memory, UNLIMITED) - reserve),
        memory_by=_by(memory.headroom_by or memory.limit_by),
        swap=_limit(swap, 0),
        swap_left=_left(swap, 0),
        cpus=cpus(snapshot),
        pids_left=_left(pids, UNLIMITED),
        disk_left=max(0, disk_left),
        pressed=_pressed(snapshot, pressure, is_idle=not running),
        running=tuple(running),
        kept_free=reserve,
    )


def resources(snapshot: Snapshot) -> WorkerResources:
    """What Lotus calls `WorkerResources`."""
    return WorkerResources(
        mem_physical=_limit(snapshot.memory, 0),
        mem_used=snapshot.memory.used,
        mem_swap=_limit(snapshot.swap, 0),
        mem_swap_used=snapshot.swap.used,
        cpus=cpus(snapshot),
    )


def cpus(snapshot: Snapshot) -> int:
    """Whole CPUs, one at least."""
    thousandths = snapshot.cpus.limit
    return 1 if thousandths is None else max(1, thousandths // 1000)


def _limit(bound: Bound, otherwise: int) -> int:
    return otherwise if bound.limit is None else max(0, bound.limit)


def _left(bound: Bound, otherwise: int) -> int:
    """The headroom; where nobody knows what is used, the limit."""
    if bound.headroom is not None:
        return max(0, bound.headroom)
    return _limit(bound, otherwise)


def _by(fact: Fact | None) -> str:
    return "no limit" if fact is None else f"{fact.level} {fact.name}"


def _pressed(snapshot: Snapshot, threshold: float, *, is_idle: bool) -> str:
    """Pressure counts where memory is short on that level and something of ours runs: who waits may be in a group
    further down, a worker at its own limit or a stranger, to whom it makes no difference whether we begin more."""
    found = snapshot.pressure
    is_high = found is not None and threshold > 0 and found.full_10s >= threshold
    if found is not None and is_high and not is_idle and _is_short(snapshot, found.level):
        waits = f"all wait for memory {found.full_10s:.0f} % of the time in {found.level}"
        return f"{waits}; from {threshold:.0f} % on nothing is begun"
    for fact in snapshot.facts:
        if fact.is_soft and fact.resource is Resource.MEMORY and _is_reached(fact):
            return f"{_by(fact)} is reached, so that all are slowed down"
    return ""


def _is_short(snapshot: Snapshot, level: str) -> bool:
    """Whether little memory is left there. What a group's limit leaves says nothing of the machine, nor the reverse."""
    if level == HOST:
        facts = [fact for fact in snapshot.facts if fact.level == HOST]
        return _has_less(bound(facts, Resource.MEMORY), MACHINE_SHORT_PARTS)
    return _has_less(snapshot.memory, SHORT_PARTS)


def _has_less(memory: Bound, parts: int) -> bool:
    return None in (memory.limit, memory.headroom) or _left(memory, 0) * parts < _limit(memory, 0)


def _is_reached(fact: Fact) -> bool:
    return fact.limit is not None and fact.used is not None and fact.used >= fact.limit
