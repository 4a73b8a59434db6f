"""The inode table: which node has which number, how often the kernel holds it, and what path it has.

A number is the hash of the parent's number, the name and the node's version, so it is the same each time
within a mount and after every forget; one path is one inode (the kernel forbids a directory two parents, and
equal content has equal pages anyway). The table holds what the kernel holds: each look-up counts, `forget`
gives back, nothing else stays.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from fusefs.errors import StaleNode
from fusefs.tree import Node

ROOT: Final = 1


class Inode:
    """One entry of the table; `parent` is None for the mountpoint."""

    __slots__ = ("lookups", "name", "node", "number", "parent")

    def __init__(self, number: int, parent: Inode | None, name: bytes, node: Node) -> None:
        self.number = number
        self.parent = parent
        self.name = name
        self.node = node
        self.lookups = 0

    @property
    def path(self) -> str:
        """The path below the mountpoint, for messages."""
        names: list[bytes] = []
        here: Inode | None = self
        while here is not None and here.parent is not None:
            names.append(here.name)
            here = here.parent
        return b"/".join(reversed(names)).decode(errors="backslashreplace") or "."


class InodeTable:
    """Number → inode, for everything that the kernel knows."""

    def __init__(self, root: Node) -> None:
        self.root = Inode(ROOT, None, b"", root)
        self.root.lookups = 1
        self._inodes = {ROOT: self.root}

    def __len__(self) -> int:
        return len(self._inodes)

    def __contains__(self, number: int) -> bool:
        return number in self._inodes

    def get(self, number: int) -> Inode | None:
        """The inode, if the kernel holds it."""
        return self._inodes.get(number)

    def __getitem__(self, number: int) -> Inode:
        try:
            return self._inodes[number]
        except KeyError:
            raise StaleNode(f"inode {number} was forgotten") from None

    def meet(self, parent: Inode, name: bytes, node: Node, number: int = 0) -> Inode:
        """The inode of `name` in `parent`, a new one if the kernel does not hold it; the caller counts the look-up.

        `number`: what `number_of` gives, where the caller knows it.
        """
        number = number or number_of(parent.number, name, node.version)
        while (inode := self._inodes.get(number)) is not None:
            if _is(inode, parent, name):
                return inode
            number = number_of(number, name, b"\0again")
        inode = self._inodes[number] = Inode(number, parent, name, node)
        return inode

    def held(self, parent: Inode) -> Held:
        """What the kernel holds of a directory."""
        return Held(self._inodes, parent)

    def forget(self, number: int, count: int) -> None:
        """Takes back `count` look-ups; an inode without any is dropped."""
        inode = self._inodes.get(number)
        if inode is None or inode is self.root:
            return
        inode.lookups -= count
        if inode.lookups <= 0:
            del self._inodes[number]


class Held:
    """Asked by name, gives the lasting node that the kernel holds in one directory, or None; safe in any thread."""

    def __init__(self, inodes: dict[int, Inode], parent: Inode) -> None:
        self._inodes = inodes
        self._parent = parent
        self._last = (b"", 0)

    def __call__(self, name: bytes) -> Node | None:
        number = number_of(self._parent.number, name, b"")
        self._last = (
            name,
            number,
        )  # hashing costs as much as all the rest of making an entry: once is enough
        inode = self._inodes.get(number)
        return (
            inode.node
            if inode is not None and inode.node.lasting and _is(inode, self._parent, name)
            else None
        )

    def number(self, name: bytes, node: Node) -> int:
        """The number of a name, known already if it was just asked for."""
        last, number = self._last
        return (
            number
            if last is name and not node.version
            else number_of(self._parent.number, name, node.version)
        )


def _is(inode: Inode, parent: Inode, name: bytes) -> bool:
    """Whether it has this path; the parent's object may be a later one than the child's (forget, then look-up)."""
    return inode.parent is not None and inode.parent.number == parent.number and inode.name == name


def number_of(parent: int, name: bytes, version: bytes) -> int:
    """63 bits, never 0 (which means "no inode") and never the root's."""
    digest = blake2b(name, digest_size=8, key=parent.to_bytes(8, "little") + version[:56]).digest()
    return int.from_bytes(digest, "little") >> 1 | 2
