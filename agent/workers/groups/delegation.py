"""Whether a group of cgroup v2 is ours to divide, and its division: the agent in a leaf of its own, workers beside it.

In v2 only a group without processes can have groups below it with limits, so the agent has to move out of its own.
That would pull the rug from under systemd or a container's manager if the group were theirs: a login session's, a unit
without `Delegate=`. Nothing is moved before everything that can be known says that it is ours.
"""

from __future__ import annotations

import posixpath

from agent.workers.groups.place import Place
from agent.workers.groups.tree import Tree

LEAF = "agent"
_MARKS = ("user.delegate", "trusted.delegate")  # systemd's, the second for root's eyes only
_HINT = "put Delegate=memory in its unit"
_TRIES = 5  # a process that is started while the others are moved is moved in the next round


class NotOurs(Exception):
    """The group is not ours to divide; says why and what to do."""


def base(tree: Tree, own: Place, uid: int) -> str:
    """The folder of the group to divide: ours, or the one above of which ours is a leaf. Raises NotOurs."""
    folder, above = own.folder, posixpath.dirname(own.folder)
    if _is_marked(tree, folder):
        return folder
    if own.path != "/" and _is_marked(
        tree, above
    ):  # an agent that has moved before, or systemd's DelegateSubgroup=
        return above
    if own.path == "/":
        if not _exists(tree, f"{folder}/cgroup.events"):
            raise NotOurs(
                "the machine's root group is not divided; start the agent in a unit with Delegate=memory"
            )
        return (
            folder  # of a cgroup namespace: a container's, and whether it may be written is seen by writing
        )
    if posixpath.basename(folder) == LEAF and _is_namespace_root(tree, own, above):
        return above
    if _is_user_service(tree, own, uid):
        return folder
    if own.path.endswith(".scope"):
        raise NotOurs(f"{own.level} is a session's, not the agent's; start it in a unit with Delegate=memory")
    raise NotOurs(f"{own.level} is not delegated; {_HINT}")


def _is_marked(tree: Tree, folder: str) -> bool:
    return any(tree.mark(folder, mark).strip() == "1" for mark in _MARKS)


def _is_namespace_root(tree: Tree, own: Place, folder: str) -> bool:
    return folder == own.mount and _exists(tree, f"{folder}/cgroup.events")


def _is_user_service(tree: Tree, own: Place, uid: int) -> bool:
    """Whether it is a service of a user's manager too old to mark what it delegates (before systemd 251).

    Its folders all belong to the user, whether delegated or not; a newer one's own service would be marked.
    """
    manager, found, _ = own.folder.partition(f"/user@{uid}.service/")
    if uid == 0 or not found or not own.path.endswith(".service"):
        return False
    if _is_marked(tree, f"{manager}/user@{uid}.service"):
        return False
    try:
        return tree.owner(own.folder) == uid
    except OSError:
        return False


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


def _exists(tree: Tree, path: str) -> bool:
    try:
        tree.read(path)
    except OSError:
        return False
    return True
