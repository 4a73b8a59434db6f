"""Finds out whether each worker process can have a group of its own, and makes them.

Called once at the agent's start, before it has started any process; a killed agent's groups are removed then.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

from agent.resources.facts import Mode
from agent.workers.groups import delegation, names
from agent.workers.groups.child import ChildGroup, Kernel
from agent.workers.groups.group import Group, NoGroup
from agent.workers.groups.place import NoPlace, Place, find
from agent.workers.groups.tree import MachineTree, Tree
from agent.workers.groups.v1 import V1
from agent.workers.groups.v2 import V2

logger = logging.getLogger(__name__)

_TRIAL_BYTES = 64 << 20  # any limit: nothing is in that group


@dataclass(frozen=True, slots=True)
class _Base:
    """The group below which workers' groups are made."""

    mode: Mode
    kernel: Kernel
    folder: str
    level: str
    us: names.Owner


class Groups:
    """Makes groups; get it from `open_groups`. None of its methods waits or raises."""

    def __init__(self, tree: Tree, base: _Base | None, reason: str) -> None:
        self._tree = tree
        self._base = base
        self._made: list[ChildGroup] = []
        self.reason = reason  # why no process has a limit of its own, in a sentence; "": each has

    @property
    def possible(self) -> bool:
        return self._base is not None

    @property
    def level(self) -> str:
        """The group below which they are made, as `Fact.level`; "" where they are not."""
        return self._base.level if self._base else ""

    def make(self, name: str) -> Group:
        """A group for one process, without a limit yet; one that does nothing where none can be made.

        `name` is letters and digits, and used once.
        """
        if self._base is None:
            return NoGroup(self.reason)
        self._made = [group for group in self._made if not (group.is_leaving and group.try_remove())]
        full = self._base.us.name(name)
        level = full if self._base.level == "/" else f"{self._base.level}/{full}"
        try:
            self._tree.make(f"{self._base.folder}/{full}")
        except OSError as error:
            logger.info("cannot make the group %s: %s", level, error.strerror)
            return NoGroup(f"no group {level} could be made: {error.strerror}")
        group = ChildGroup(self._tree, self._base.kernel, f"{self._base.folder}/{full}", level)
        self._made.append(group)
        return group

    def close(self) -> None:
        """Ends what is left in the groups, and them."""
        for group in self._made:
            group.remove()
        self._made.clear()


def open_groups(tree: Tree | None = None, *, setting: str = "auto", uid: int | None = None) -> Groups:
    """Groups for this process's workers; never raises. `setting` is `resources.child_groups`.

    On v2 this moves the process, with all else in its group, into a leaf of that; see `delegation`.
    """
    tree = MachineTree() if tree is None else tree
    if setting == "off":
        return Groups(tree, None, "resources.child_groups is off")
    try:
        base = _open(tree, os.geteuid() if uid is None else uid)
    except (NoPlace, delegation.NotOurs) as error:
        return Groups(tree, None, str(error) + _hint(str(error)))
    except (OSError, ValueError) as error:
        return Groups(tree, None, f"groups cannot be made here: {error}{_hint(str(error))}")
    _sweep(tree, base)
    groups = Groups(tree, base, "")
    trial = groups.make("trial")
    trial.limit(_TRIAL_BYTES)
    trial.remove()
    return Groups(tree, None, trial.problem + _hint(trial.problem, base.mode)) if trial.problem else groups


def _open(tree: Tree, uid: int) -> _Base:
    place = find(tree.read("/proc/self/cgroup"), tree.read("/proc/self/mountinfo"))
    us = names.this_process(tree)
    if place.mode is Mode.V1:
        _check_v1(tree, place)
        return _Base(place.mode, V1(tree), place.own.folder, place.own.name, us)
    divided = delegation.base(tree, place, uid)
    delegation.divide(tree, divided.folder)
    return _Base(place.mode, V2(tree), divided.folder, divided.name, us)


def _check_v1(tree: Tree, place: Place) -> None:
    try:
        is_hierarchy = tree.read(f"{place.own.folder}/memory.use_hierarchy").strip() != "0"
    except FileNotFoundError:  # it went with the choice: a hierarchy is always one
        return
    if not (is_hierarchy or place.is_root):
        raise delegation.NotOurs(
            f"memory.use_hierarchy is 0 in {place.own.name}: what is below would escape its limit"
        )


def _hint(problem: str, mode: Mode | None = None) -> str:
    if "Read-only" in problem:
        return "; the unit must be without ProtectControlGroups=, a container must have its cgroups writable"
    if "Permission denied" not in problem:
        return ""
    if mode is Mode.V1:
        return "; on cgroup v1 only root may make them, and whoever was given the folder: systemd gives it to nobody"
    return "; a unit with Delegate=memory may make them"


def _sweep(tree: Tree, base: _Base) -> None:
    """Removes the groups of agents that were killed, with whatever process of theirs has not noticed yet."""
    try:
        found = tree.children(base.folder)
    except OSError:
        return
    for name in found:
        owner = names.owner_of(name)
        if owner is not None and names.is_dead(tree, owner, base.us):
            ChildGroup(tree, base.kernel, f"{base.folder}/{name}", name).remove()
            logger.info("removed the group %s of an agent that was killed", name)
