"""Where this process's memory group is: from /proc/self/cgroup and /proc/self/mountinfo to a folder.

Unlike `agent.resources`, which reads every hierarchy that limits, this wants the one in which groups can be made.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.resources.facts import Mode


class NoPlace(Exception):
    """There is no folder of our group; says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """A group."""

    mode: Mode  # V1 (a hybrid one too: the memory controller counts) or V2
    mount: str  # the folder at which its hierarchy is mounted
    path: str  # of the group below that: "/system.slice/carfs.service"; "/": the mount's own

    @property
    def folder(self) -> str:
        return self.mount if self.path == "/" else self.mount + self.path

    @property
    def level(self) -> str:
        """As `Fact.level` names it."""
        return self.path.strip("/") or "/"


def find(cgroup: str, mountinfo: str) -> Place:
    """The place, from what the two files say; raises NoPlace."""
    lines = [line.split(":", 2) for line in cgroup.splitlines() if line.count(":") >= 2]
    v1 = next((path for _, controllers, path in lines if "memory" in controllers.split(",")), None)
    v2 = next((path for number, controllers, path in lines if number == "0" and not controllers), None)
    if v1 is not None:
        return _place(Mode.V1, v1, _mounts(mountinfo, "cgroup", "memory"))
    if v2 is not None:
        return _place(Mode.V2, v2, _mounts(mountinfo, "cgroup2", ""))
    raise NoPlace("this kernel has no cgroups with a memory controller")


def _place(mode: Mode, path: str, mounts: list[tuple[str, str]]) -> Place:
    if not mounts:
        raise NoPlace(f"the cgroup {mode} hierarchy with the memory controller is not mounted here")
    root, mount = mounts[-1]  # of two at the same folder the later hides the earlier
    if root.startswith("/.."):  # of a mount from outside our namespace; joined, it would be another group
        raise NoPlace(f"what is mounted at {mount} does not show the group of this process")
    if root != "/":
        if path != root and not path.startswith(root + "/"):
            raise NoPlace(f"what is mounted at {mount} shows {root}, and this process is in {path}")
        path = path[len(root) :] or "/"
    if path.startswith("/.."):
        raise NoPlace(f"the group of this process lies outside of its cgroup namespace: {path}")
    return Place(mode, mount, path)


def _mounts(mountinfo: str, kind: str, controller: str) -> list[tuple[str, str]]:
    """(root, mount point) of the mounts of this type, with this controller; in the order of the file."""
    found = []
    for line in mountinfo.splitlines():
        fields, separator, rest = line.partition(" - ")
        left, right = fields.split(" "), rest.split(" ")
        if not separator or len(left) < 5 or len(right) < 3 or right[0] != kind:
            continue
        if not controller or controller in right[2].split(","):
            found.append((_plain(left[3]), _plain(left[4])))
    return found


def _plain(text: str) -> str:
    """Without the kernel's octal escapes."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escape, character)
    return text
