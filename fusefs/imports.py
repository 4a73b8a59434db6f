"""`imports/`: the agent's imports, and beside them what is on its way to become one.

    ln -s PATH imports/a        the agent imports PATH by reference, or as the CAR that it is
    cp FILE imports/            `copying.py`: an import when the file is closed
    mkdir imports/t, cp -r …    `growing.py`: an import when nothing has happened for `settle_s`, or when it is moved
    mv imports/a imports/b      another name
    rmdir imports/a             dropped; of the user's files nothing is touched

A name is what is on its way, as long as that is, and then the import. Who may make names is for the kernel to say, by
the permission bits of the directory: they are those of the agent's own rule (its user, root, its admin group).
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from fusefs.attributes import LINK, Attributes, of_folder
from fusefs.copying import Copies, Copy, Importing
from fusefs.errors import (
    AgentAway,
    BadName,
    InUse,
    MountError,
    NameTaken,
    NoSource,
    NoSuchName,
    NotAllowed,
    NotEmpty,
    OtherPlace,
    OwnTree,
    ReadOnlyTree,
)
from fusefs.growing import GrownFolder, Tree
from fusefs.shard import Shard
from fusefs.shards import Shards
from fusefs.staging import Staging
from fusefs.stores import Stores
from fusefs.tree import IMPORTS, Entry, Known, Node, Who, Writing
from fusefs.waits import Lane, Pool, Waits

logger = logging.getLogger(__name__)

_MOST_LINKS: Final = 40
THREADS, WAITING = 32, 256
"""For all that is written: what waits for the agent, or for a disk, holds up nobody who reads."""


class Changing(Importing, Protocol):
    """What is asked of the agent; see `AgentChanges`. All of it blocks, and raises MountError."""

    def link(self, path: Path, name: str) -> None: ...

    def take_tree(self, path: Path, name: str) -> None: ...

    def rename(self, key: str, name: str) -> None: ...

    def drop(self, key: str) -> None: ...

    def register(self, key: str, url: str) -> None: ...

    def destroy(self, key: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Writers:
    """Who may make names: the permission bits of a directory, and whose it is."""

    uid: int | None = None
    gid: int | None = None
    mode: int = 0o755

    def folder(self, mtime_ns: int, folders: int) -> Attributes:
        found = of_folder(mtime_ns, folders)
        kind = found.mode & ~0o7777
        return Attributes(kind | self.mode, 0, mtime_ns, found.links, self.uid, self.gid)


class MadeLink:
    """What `symlink` answers; the next who looks finds what has become of it."""

    lasting = False
    version = b"link"

    def __init__(self, target: bytes, who: Who) -> None:
        self.target = target
        self._who = who

    def attributes(self) -> Attributes:
        return Attributes(LINK, len(self.target), 0, uid=self._who.uid, gid=self._who.gid)

    def facts(self) -> Mapping[str, str]:
        return {}


class ImportsFolder:
    """The directory."""

    lasting = settled = False
    lane = None
    version = b""

    def __init__(
        self,
        imports: Shards,
        stores: Stores,
        staging: Staging,
        agent: Changing,
        waits: Waits,
        mountpoint: Path,
        *,
        writers: Writers,
        settle_s: float,
    ) -> None:
        self.writing: Lane = Pool(threads=THREADS, per_lane=THREADS, waiting=WAITING).lane()
        self.forget: Callable[[bytes], None] = lambda _name: None
        """Tells the kernel to ask anew for a name; whoever mounts sets it."""
        self._imports = imports
        self._stores = stores
        self._staging = staging
        self._agent = agent
        self._waits = waits
        self._mountpoint = mountpoint
        self._writers = writers
        self._settle_s = settle_s
        self._copies = Copies(staging, agent, waits, self.writing)
        self._copies.imported = lambda name: self.forget(name)

    def attributes(self) -> Attributes:
        return self._writers.folder(self._imports.mtime_ns, len(self._imports.folders()))

    def facts(self) -> Mapping[str, str]:
        return {}

    def child(self, name: bytes) -> Node | None:
        return self._staging.entries().get(name) or self._imports.folders().get(name)

    child_nowait = child

    def children(self, known: Known) -> Iterator[Entry]:
        own = dict(self._staging.entries())
        yield from own.items()
        for name, node in self._imports.folders().items():
            if name not in own:
                yield name, node

    # Changes, in threads

    def make_file(self, name: bytes, mode: int, who: Who) -> tuple[Node, Writing]:
        self._check_free(name)
        self._agent.check_here()
        copy = self._copies.begin(name, mode, who)
        return copy, copy

    def make_folder(self, name: bytes, mode: int, who: Who) -> Node:
        self._check_free(name)
        return self._grow(name, self._staging.new_tree(name), who)

    def make_link(self, name: bytes, target: bytes, who: Who) -> Node:
        self._check_free(name)
        self._agent.link(self._source(target), name.decode())
        return MadeLink(target, who)

    def make_name(self, name: bytes, node: Node) -> Node:
        raise ReadOnlyTree("an import has one name")

    def remove_file(self, name: bytes) -> None:
        """Of a copy that is under way: nothing comes of it."""
        found = self._staging.entries().get(name)
        if not isinstance(found, Copy):
            raise NoSuchName
        shard = self._imports.named(name)
        if found.is_importing and shard is not None:
            self._agent.drop(shard.key)  # whoever closes it is told
        found.remove()

    def remove_folder(self, name: bytes) -> None:
        found = self._staging.entries().get(name)
        if isinstance(found, GrownFolder):
            self._remove_tree(name, found)
            return
        shard = self._imports.named(name)
        if shard is None:
            raise NoSuchName
        let_go(self._stores, shard)
        self._agent.drop(shard.key)

    def move(self, name: bytes, into: Node, new: bytes, *, replace: bool) -> None:
        if into is not self:
            raise OtherPlace("an import can have another name, and is nowhere else")
        self._check_free(new)
        found = self._staging.entries().get(name)
        if isinstance(found, GrownFolder):
            self._hand_over(name, found, new)
        elif isinstance(found, Copy):
            if found.is_importing:
                raise InUse("it is being imported")
            self._staging.rename(name, new)
            found.name = new
        else:
            shard = self._imports.named(name)
            if shard is None:
                raise NoSuchName
            self._agent.rename(shard.key, new.decode())

    # Directories that grow

    def resume(self) -> None:
        """Takes over what a mount that has died was filling."""
        for name, path in self._staging.take_over():
            name = next(one for one in _numbered(name) if self.child(one) is None)
            folder = self._grow(name, path, Who(os.getuid(), os.getgid(), os.getpid()))
            folder.tree.is_doubtful = True
            logger.warning(
                "imports/%s is what a mount that ended was filling: go on with it, move it, or remove it; it is not "
                "imported by itself",
                os.fsdecode(name),
            )

    def settle(self, *, at_end: bool = False) -> None:
        """In a thread: gives the agent what rests; at the end of the mount, what nobody is at work on."""
        for name, node in list(self._staging.entries().items()):
            if isinstance(node, GrownFolder) and self._is_due(node, at_end):
                try:
                    self._agent.check_here()
                    self._hand_over(name, node, name)
                except AgentAway as error:  # it will be tried again
                    logger.debug("imports/%s is not imported yet: %s", os.fsdecode(name), error)
                except MountError as error:
                    logger.warning("imports/%s is not imported: %s", os.fsdecode(name), error)

    def _is_due(self, node: GrownFolder, at_end: bool) -> bool:
        if not at_end and not self._settle_s:
            return False
        try:
            return node.tree.rests(0 if at_end else self._settle_s) and any(node.path.iterdir())
        except OSError:
            return False

    def _grow(self, name: bytes, path: Path, who: Who) -> GrownFolder:
        tree = Tree(self._waits, self.writing, who, self._staging.give)
        folder = GrownFolder(tree, None, str(path), path.lstat())
        try:
            self._staging.put(name, folder)
        except MountError:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return folder

    def _hand_over(self, name: bytes, folder: GrownFolder, new: bytes) -> None:
        """The agent takes the tree, under another name perhaps."""
        folder.tree.take()
        try:
            self._agent.take_tree(folder.path, new.decode())
        except Exception as error:
            folder.tree.give_back("" if isinstance(error, AgentAway) else str(error))
            raise
        self._staging.remove(name, folder)
        self.forget(name)

    def _remove_tree(self, name: bytes, folder: GrownFolder) -> None:
        folder.tree.take()
        try:
            folder.path.rmdir()
        except OSError as error:
            folder.tree.give_back("")
            raise NotEmpty(f"{name!r}: {error.strerror}") from None
        self._staging.remove(name, folder)

    # Names and places

    def _check_free(self, name: bytes) -> None:
        try:
            name.decode()
        except UnicodeDecodeError:
            raise BadName(f"{name!r} is not UTF-8") from None
        if self.child(name) is not None:
            raise NameTaken(f"there is an import {name.decode()!r} already")

    def _source(self, target: bytes) -> Path:
        """What a link leads to: a relative one from `imports/`, as any link."""
        if b"/" not in target and self.child(target) is None:
            raise NoSource(f"there is no import {target!r}, and no path from imports/ either")
        return outside(self._mountpoint, self._mountpoint / os.fsdecode(IMPORTS), target)


def outside(mountpoint: Path, folder: Path, target: bytes) -> Path:
    """The absolute path that a link in `folder`, which is in the mount, leads to, without symlinks. Raises NoSource,
    NotAllowed, or OwnTree: what the agent reads from may not wait for the mount that waits for the agent.

    Nothing is asked of the mount itself, whose directory the kernel keeps locked until the link is made.
    """
    path = os.path.normpath(folder / os.fsdecode(target))
    here, todo, links = "/", path.split("/")[::-1], 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        here = os.path.dirname(here) if part == ".." else os.path.join(here, part)  # noqa: PTH118, PTH120
        if here == str(mountpoint):
            raise OwnTree(f"{path} is in the mount itself")
        try:
            link = os.readlink(here) if stat.S_ISLNK(os.lstat(here).st_mode) else None  # noqa: PTH115
        except OSError as error:
            if isinstance(error, PermissionError):
                raise NotAllowed(f"{path}: {error.strerror}") from None
            raise NoSource(f"{path}: {error.strerror}") from None
        if link is not None:
            links += 1
            if links > _MOST_LINKS:
                raise NoSource(f"{path}: more than {_MOST_LINKS} symlinks")
            here = os.path.dirname(here)  # noqa: PTH120
            todo += link.split("/")[::-1]
            if link.startswith("/"):
                here = "/"
    return Path(here)


def let_go(stores: Stores, shard: Shard) -> None:
    """Gives back our own lease, which is kept for a while after the last read; raises InUse."""
    if not stores.let_go(shard):
        raise InUse(f"{shard.record.name!r} is being read in this mount")


def _numbered(name: bytes) -> Iterator[bytes]:
    yield name
    number = 2
    while True:
        yield b"%s-%d" % (name, number)
        number += 1
