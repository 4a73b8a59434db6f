"""The names of workers' groups, which say whose they are: a killed agent's can be told from those in use.

`carfs-worker-PID-STARTED-NAMESPACE-NAME`: the agent's pid, the clock tick in which it started, and the number of the
namespace that the pid counts in. A pid alone would be another process's before long.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from agent.workers.groups.tree import Tree

_NAME = re.compile(r"carfs-worker-(\d+)-(\d+)-([0-9a-f]+)-([A-Za-z0-9_.]+)")


@dataclass(frozen=True, slots=True)
class Owner:
    """An agent, or a remote worker's program."""

    pid: int
    started: int  # clock ticks since the machine was booted
    namespace: int

    def name(self, name: str) -> str:
        """Of a group. Raises ValueError for what cannot be part of one."""
        full = f"carfs-worker-{self.pid}-{self.started}-{self.namespace:x}-{name}"
        if not _NAME.fullmatch(full):
            raise ValueError(f"a group cannot be named {name!r}")
        return full


def owner_of(name: str) -> Owner | None:
    """Whose group has this name; None for one that is not a worker's."""
    match = _NAME.fullmatch(name)
    return Owner(int(match[1]), int(match[2]), int(match[3], 16)) if match else None


def this_process(tree: Tree) -> Owner:
    """Raises OSError without /proc."""
    return Owner(os.getpid(), _started(tree.read("/proc/self/stat")), _namespace())


def is_dead(tree: Tree, owner: Owner, us: Owner) -> bool:
    """Whether it has ended for sure; of another pid namespace nothing can be said."""
    if owner.namespace != us.namespace:
        return False
    try:
        return _started(tree.read(f"/proc/{owner.pid}/stat")) != owner.started
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:
        return False


def _started(stat: str) -> int:
    """Field 22 of proc(5)'s stat; the second is a name in parentheses that may hold anything."""
    return int(stat.rpartition(")")[2].split()[19])


def _namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116
    except OSError:
        return 0
