"""Snapshots made by hand, for tests of what follows from them."""

from __future__ import annotations

from agent.resources.facts import Bound, Fact, Mode, Pressure, Resource, Snapshot

MIB = 1 << 20


def memory_fact(
    limit: int | None, used: int = 0, *, directory: str = "/sys/fs/cgroup/a", source: str = "cgroup-v2"
) -> Fact:
    name = "memory.max" if source == "cgroup-v2" else "memory.limit_in_bytes"
    return Fact(
        Resource.MEMORY,
        source,
        directory.removeprefix("/sys/fs/cgroup"),
        name,
        f"{directory}/{name}",
        limit,
        used,
    )


def snapshot_of(*facts: Fact, full_10s: float | None = None, pids: int | None = None) -> Snapshot:
    """What follows from facts of memory, the smallest of which binds; pressure if it is given."""
    limited = [(fact.limit, fact) for fact in facts if fact.limit is not None]
    memory = Bound()
    if limited:
        limit, binding = min(limited, key=lambda pair: pair[0])
        memory = Bound(limit, binding, max(0, limit - (binding.used or 0)), binding)
    pressure = None if full_10s is None else Pressure(full_10s, full_10s, "/", "/proc/pressure/memory")
    return Snapshot(Mode.V2, facts, (), memory, Bound(), Bound(), Bound(limit=pids), pressure)


def limited_to(limit_mib: int, used_mib: int = 0, *, full_10s: float | None = None) -> Snapshot:
    return snapshot_of(memory_fact(limit_mib * MIB, used_mib * MIB), full_10s=full_10s)
