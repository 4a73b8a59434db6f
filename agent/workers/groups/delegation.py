"""Whether a group of cgroup v2 is ours to divide, and its division: the agent in a leaf of its own, workers beside it.

In v2 only a group without processes can have groups below it with limits, so the agent has to move out of its own.
That would pull the rug from under systemd or a container's manager if the group were theirs: a login session's, a unit
without `Delegate=`. Nothing is moved before everything that can be known says that it is ours.
"""

from __future__ import annotations

import posixpath

from agent.resources.membership import Level
from agent.workers.groups.place import Place
from agent.workers.groups.tree import Tree

LEAF = "agent"
_MARKS = ("user.delegate", "trusted.delegate")  # systemd's, the second for root's eyes only
_HINT = "put Delegate=memory in its unit"
_TRIES = 5  # a process that is started while the others are moved is moved in the next round


class NotOurs(Exception):
    """The group is not ours to divide; says why and what to do."""


def base(tree: Tree, place: Place, uid: int) -> Level:
    """The group to divide: our own, or the one above of which it is a leaf. Raises NotOurs."""
    own = place.own
    if _is_marked(tree, own):
        return own
    if place.is_root:
        if not _is_limited(tree, own):
            raise NotOurs(
                "the machine's root group is not divided; start the agent in a unit with Delegate=memory"
            )
        return own  # a container's as a rule; whether it may be written is seen by writing
    above = place.levels[-2]
    if _is_marked(tree, above):  # an agent that has moved before, or systemd's DelegateSubgroup=
        return above
    if posixpath.basename(own.folder) == LEAF and len(place.levels) == 2 and _is_limited(tree, above):
        return above
    if _is_users_own(tree, place, uid):
        return own
    if own.name.endswith(".scope"):
        raise NotOurs(
            f"{own.name} is a session's or a command's, not the agent's; start that in a unit with Delegate=memory"
        )
    raise NotOurs(f"{own.name} is not delegated; {_HINT}")


def _is_marked(tree: Tree, level: Level) -> bool:
    return any(tree.mark(level.folder, mark).strip() == "1" for mark in _MARKS)


def _is_limited(tree: Tree, root: Level) -> bool:
    """Whether it is a namespace's root, which is some group of the machine; the machine's own has no such file."""
    try:
        tree.read(f"{root.folder}/cgroup.events")
    except OSError:
        return False
    return True


def _is_users_own(tree: Tree, place: Place, uid: int) -> bool:
    """Whether it is a unit of the user's own manager, which delegates it.

    That manager marks nothing (systemd 252), and its folders all belong to the user, delegated or not: it is asked.
    """
    is_below = any(level.name.endswith(f"/user@{uid}.service") for level in place.levels[:-1])
    return uid != 0 and is_below and tree.is_delegated(posixpath.basename(place.own.folder))


def divide(tree: Tree, folder: str) -> None:
    """Moves what is in the group into its leaf and lets groups below it have memory limits.

    Only memory: with the cpu controller each worker would get as much as the agent, whatever its nice value. Raises
    NotOurs, with all back where it was.
    """
    if "memory" not in _words(tree, f"{folder}/cgroup.controllers"):
        raise NotOurs(f"{folder} has no memory controller; {_HINT}")
    if "memory" in _words(tree, f"{folder}/cgroup.subtree_control"):
        return
    kind = tree.read(f"{folder}/cgroup.type").strip()
    if kind != "domain":
        raise NotOurs(f"{folder} is {kind}; limits of memory need a group that is a domain")
    leaf = f"{folder}/{LEAF}"
    try:
        if LEAF not in tree.children(folder):
            tree.make(leaf)
        _move_and_enable(tree, folder, leaf)
    except OSError as error:
        _undo(tree, folder, leaf)
        raise NotOurs(f"{folder} cannot be divided: {error.strerror}") from error


def _move_and_enable(tree: Tree, folder: str, leaf: str) -> None:
    for remaining in reversed(range(_TRIES)):
        _move(tree, folder, leaf)
        try:
            tree.write(f"{folder}/cgroup.subtree_control", "+memory")
            return
        except OSError:
            if not remaining:
                raise


def _move(tree: Tree, source: str, target: str) -> None:
    for pid in _words(tree, f"{source}/cgroup.procs"):
        try:
            tree.write(f"{target}/cgroup.procs", pid)
        except ProcessLookupError:
            pass  # it has ended


def _undo(tree: Tree, folder: str, leaf: str) -> None:
    try:
        _move(tree, leaf, folder)
        tree.remove(leaf)
    except OSError:
        pass  # a leaf more; what is in it has the limits of the group all the same


def _words(tree: Tree, path: str) -> list[str]:
    return tree.read(path).split()
