"""Which files have events, derived from the facts of the last reading: another group, and other files are watched.

A fact names the file that it was read from, so the paths here are those that the reader could open, through whichever
mount it found; what a mount namespace hides from it is not here either.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.resources.facts import Resource, Snapshot

CGROUP_V1 = "cgroup-v1"
CGROUP_V2 = "cgroup-v2"
HOST_PRESSURE = "/proc/pressure/memory"


@dataclass(frozen=True, slots=True)
class V1Group:
    """A memory group of cgroup v1 and the smallest limit that is known there."""

    path: str
    limit: int


@dataclass(frozen=True, slots=True)
class Watched:
    """The places of one snapshot, each once and in the order of its facts."""

    limit_files: tuple[str, ...] = ()  # of all cgroup levels
    v2_groups: tuple[str, ...] = ()  # directories
    v1_groups: tuple[V1Group, ...] = ()  # those that have a limit of memory
    pressure_files: tuple[str, ...] = ()  # the best first


def watched(snapshot: Snapshot) -> Watched:
    """What to watch after `snapshot`."""
    in_groups = [fact for fact in snapshot.facts if fact.source in (CGROUP_V1, CGROUP_V2) and fact.file]
    v1_limits: dict[str, int] = {}
    for fact in in_groups:
        if fact.source == CGROUP_V1 and fact.resource is Resource.MEMORY and not fact.is_soft and fact.limit:
            path = _directory(fact.file)
            v1_limits[path] = min(fact.limit, v1_limits.get(path, fact.limit))
    v2_groups = (_directory(fact.file) for fact in in_groups if fact.source == CGROUP_V2)
    tightest = [] if snapshot.pressure is None else [snapshot.pressure.file, HOST_PRESSURE]
    return Watched(
        tuple(dict.fromkeys(fact.file for fact in in_groups)),
        tuple(dict.fromkeys(v2_groups)),
        tuple(V1Group(path, limit) for path, limit in v1_limits.items()),
        tuple(dict.fromkeys(tightest)),
    )


def _directory(file: str) -> str:
    return file.rpartition("/")[0]
