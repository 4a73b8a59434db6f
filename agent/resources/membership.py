"""Which cgroups a process is in, and where the mounted hierarchies show them: from /proc/PID/cgroup and the mounts.

What can be seen of a group depends on two views that need not agree. The *path* in /proc/PID/cgroup starts from the
reader's cgroup namespace; a mount shows the hierarchy from its *root*, which is in the same terms:

    path       root        what the mount point is
    /a/b       /           the top of the hierarchy (or of the namespace): the group is at a/b below it
    /a/b       /a/b        the group itself (a container with the hierarchy bind-mounted)
    /          /../..      a group above the namespace; the way down to the process's own is not told (see `locating`)
    /          /../c       some other group, which does not concern the process
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from agent.resources.mountinfo import Mount, cgroup_mounts

_GONE = " (deleted)"


@dataclass(frozen=True, slots=True)
class Level:
    """One group that binds the process: its own, or one above it."""

    folder: str  # where its files are
    name: str  # as /proc/PID/cgroup has it, without the first slash; "/" for the top
    is_own: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where one hierarchy shows the groups of a process."""

    levels: tuple[Level, ...]  # from the mount point down to its own
    trouble: str = ""  # why its own is not among them; "" if it is
    depth: int = (
        0  # how far below the one level, at some name, the namespace begins; its own is at `path` there
    )
    path: str = ""

    @property
    def own(self) -> Level | None:
        """Its own group, if that can be seen."""
        return self.levels[-1] if self.levels and self.levels[-1].is_own else None


@dataclass(frozen=True, slots=True)
class Membership:
    """The places of a process; None where there is no such hierarchy."""

    v2: Place | None
    v1: dict[str, Place]  # by controller
    v1_controllers: frozenset[str]  # those that /proc/PID/cgroup has on v1, mounted or not
    has_v2: bool = False  # whether /proc/PID/cgroup has a group on v2, mounted or not


@functools.lru_cache(maxsize=16)
def membership(cgroup: str, mountinfo: str) -> Membership:
    """From the texts of the two files. Remembered by them, so that a process that was moved is seen where it is."""
    mounts = cgroup_mounts(mountinfo)
    v1: dict[str, Place] = {}
    on_v1: set[str] = set()
    v2: Place | None = None
    has_v2 = False
    for controllers, path in _lines(cgroup):
        if not controllers:
            has_v2 = True
            v2 = _place([mount for mount in mounts if mount.is_v2], path)
            continue
        for controller in controllers.split(","):
            on_v1.add(controller)
            place = _place(
                [one for one in mounts if not one.is_v2 and controller in one.controllers],
                path,
            )
            if place is not None:
                v1[controller] = place
    return Membership(v2, v1, frozenset(on_v1), has_v2)


def _lines(cgroup: str) -> Iterator[tuple[str, str]]:
    """Controllers (none: v2) and path of each line of /proc/PID/cgroup; what is no such line is passed over."""
    for line in cgroup.split("\n"):
        number, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if number.isdecimal() and separator and path.startswith("/"):
            yield controllers, path.removesuffix(_GONE)


def _place(mounts: list[Mount], path: str) -> Place | None:
    """Through which mount the group is seen best: the one that shows most of what is above it."""
    if not mounts:
        return None
    showing = [mount for mount in mounts if _below(path, mount.root) is not None]
    if showing:
        mount = min(showing, key=lambda one: len(one.root))
        return Place(tuple(_levels(mount, path)))
    above = [mount for mount in mounts if _is_above(mount.root)]
    if above:
        mount = max(above, key=lambda one: len(one.root))  # the nearest
        trouble = (
            f"{mount.point} shows {mount.root}, a group above the process's own, and not its own: "
            "what limits the groups between cannot be read"
        )
        top = Level(mount.point, mount.root.strip("/"), False)
        return Place((top,), trouble, 0 if _has_dots(path) else mount.root.count(".."), path)
    return Place((), f"{mounts[-1].point} shows {mounts[-1].root}, which the process is not in")


def _below(path: str, root: str) -> str | None:
    """The path from the mount's root; None if the mount does not show the group."""
    if root == "/":
        return path if not _has_dots(path) else None
    if path == root and not _has_dots(root):
        return "/"
    if path.startswith(root.rstrip("/") + "/") and not _has_dots(path):
        return path[len(root.rstrip("/")) :]
    return None


def _has_dots(path: str) -> bool:
    return path == "/.." or path.startswith("/../")


def _is_above(root: str) -> bool:
    return _has_dots(root) and set(root.strip("/").split("/")) == {".."}


def _levels(mount: Mount, path: str) -> Iterator[Level]:
    top = mount.root.strip("/")
    parts = [part for part in (_below(path, mount.root) or "/").split("/") if part]
    for depth in range(len(parts) + 1):
        way = parts[:depth]
        name = "/".join([top, *way] if top else way)
        yield Level("/".join([mount.point.rstrip("/"), *way]), name or "/", depth == len(parts))
