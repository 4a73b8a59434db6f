"""Where this process's memory group is: the one hierarchy, of those that `agent.resources` knows, to make groups in."""

from __future__ import annotations

from dataclasses import dataclass

from agent.resources import membership
from agent.resources.facts import Mode
from agent.resources.membership import Level


class NoPlace(Exception):
    """There is no folder of our group; says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """A group, with those above it that are mounted."""

    mode: Mode  # V1 (a hybrid one too: the memory controller counts) or V2
    levels: tuple[Level, ...]  # from the mount point down

    @property
    def own(self) -> Level:
        return self.levels[-1]

    @property
    def is_root(self) -> bool:
        """Whether it is all that can be seen: the machine's root group, or that of a cgroup namespace."""
        return len(self.levels) == 1


def find(cgroup: str, mountinfo: str) -> Place:
    """The place, from what /proc/self/cgroup and /proc/self/mountinfo say; raises NoPlace."""
    groups = membership.membership(cgroup, mountinfo)
    is_v1 = "memory" in groups.v1_controllers
    mode = Mode.V1 if is_v1 else Mode.V2
    found = groups.v1.get("memory") if is_v1 else groups.v2
    if found is None:
        raise NoPlace(f"the hierarchy of cgroup {mode} with the memory controller is not mounted here")
    if found.own is None:
        raise NoPlace(found.trouble)
    return Place(mode, found.levels)
