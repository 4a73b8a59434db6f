"""Finds the group of a process below a mount that shows a group above its namespace (`unshare -C` with the old mounts).

The mount's root, `/../..`, tells how far down the namespace begins, but not through which folders; without them the
limits of the process would stay unknown. They are found by looking for the process in each group of that depth.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

from agent.resources.files import Files
from agent.resources.membership import Level, Membership, Place, membership

CONTROLLERS = ("memory", "cpu", "cpuset", "pids")
_MOST_FOLDERS = 4096  # looked at, on one machine; some 20 ms


@functools.lru_cache(maxsize=8)
def located(files: Files, cgroup: str, mountinfo: str, process: str) -> Membership:
    """The membership with what could be found; remembered, as the texts change when the process is moved."""
    groups = membership(cgroup, mountinfo)
    v2 = _sought(files, groups.v2, process)
    v1 = dict(groups.v1)
    for controller in CONTROLLERS:
        place = _sought(files, v1.get(controller), process)
        if place is not None:
            v1[controller] = place
    return dataclasses.replace(groups, v2=v2, v1=v1)


def _sought(files: Files, place: Place | None, process: str) -> Place | None:
    if place is None or not place.depth:
        return place
    numbers = _numbers(files, process)
    top = place.levels[0]
    for way in _ways(files, top.folder, place.depth):
        parts = [*way, *(part for part in place.path.split("/") if part)]
        folder = "/".join([top.folder, *parts])
        if numbers & _processes(files, folder):
            return Place(
                tuple(
                    Level(
                        "/".join([top.folder, *parts[:depth]]),
                        "/".join([top.name, *parts[:depth]]),
                        depth == len(parts),
                    )
                    for depth in range(len(parts) + 1)
                )
            )
    return place


def _ways(files: Files, top: str, depth: int) -> Iterator[tuple[str, ...]]:
    """The names that lead to the groups so far below the mount point."""
    ways: list[tuple[str, ...]] = [()]
    for _ in range(depth):
        below: list[tuple[str, ...]] = []
        for way in ways:
            folder = "/".join([top, *way])
            try:
                below += [(*way, one) for one in files.folders(folder)]
            except OSError:
                continue  # it is gone
            if len(below) > _MOST_FOLDERS:
                return
        ways = below
    yield from ways


def _processes(files: Files, folder: str) -> set[str]:
    try:
        return set(files.read(f"{folder}/cgroup.procs").split())
    except OSError:
        return set()


def _numbers(files: Files, process: str) -> set[str]:
    """The numbers of the process, in its namespaces of processes."""
    try:
        status = files.read(f"{process}/status")
    except OSError:
        return set()
    return {
        number
        for line in status.split("\n")
        if line.startswith(("Pid:", "NSpid:"))
        for number in line.split()[1:]
    }
