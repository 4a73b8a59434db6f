"""Directories that grow in `imports/`: staged folders that can be written to as any, and become imports when they rest.

    mkdir ──► open ──► something is written ──► open, for as long as files are, and `--settle` seconds after
                │                                    └─► the agent takes it: an import from then on
                └─ mv imports/a imports/b ──► at once

A tree in which a program was killed while it wrote a file is not taken by itself: who knows what is missing. It can be
gone on with, moved, or removed.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from fusefs import closing
from fusefs.attributes import Attributes
from fusefs.errors import (
    InUse,
    NameTaken,
    NoSuchName,
    NotEmpty,
    OtherPlace,
    StaleNode,
    WrongKind,
)
from fusefs.staging import of_os_error
from fusefs.tree import Buffer, Content, Entry, Known, Node, Who, Writing
from fusefs.waits import Lane, Waits

logger = logging.getLogger(__name__)

_WRITABLE: Final = os.O_WRONLY | os.O_RDWR
_Act = Callable[[Path], None]


class Tree:
    """What all nodes of one such directory share."""

    def __init__(self, waits: Waits, lane: Lane, who: Who, give: _Act) -> None:
        self.waits = waits
        self.lane = lane
        self.who = who
        self.give = give
        self.handles = 0
        self.is_taken = False
        """The agent has it, or is being given it: nothing can be changed."""
        self.is_doubtful = False
        self.refusal = ""
        """Why the agent did not take it."""
        self._lock = threading.Lock()
        self._last = time.monotonic()

    def touch(self) -> None:
        """Something was changed; raises InUse where that is too late."""
        if self.is_taken:
            raise InUse("it is being imported")
        self._last = time.monotonic()
        self.refusal = ""

    def rests(self, seconds: float) -> bool:
        """Whether nothing was done for so long, and nothing is being done."""
        if self.handles or self.is_taken or self.is_doubtful or self.refusal:
            return False
        return time.monotonic() - self._last >= seconds

    def enter(self) -> None:
        """One more handle that writes."""
        with self._lock:
            self.touch()
            self.handles += 1

    def leave(self) -> None:
        with self._lock:
            self.handles -= 1
            self._last = time.monotonic()

    def take(self) -> None:
        """From here on nobody changes it; raises InUse."""
        with self._lock:
            if self.handles or self.is_taken:
                raise InUse("files in it are being written, or it is being imported already")
            self.is_taken = True

    def give_back(self, reason: str) -> None:
        self._last = time.monotonic()
        self.refusal = reason
        self.is_taken = False


class Grown:
    """A node of a tree: a place in the staging folder."""

    lasting = False

    def __init__(self, tree: Tree, folder: GrownFolder | None, place: str, found: os.stat_result) -> None:
        """`place`: the name in `folder`, or the path of the tree itself."""
        self.tree = tree
        self.folder = folder
        self.place = place
        # An inode's number may come again with another kind of file.
        self.version = b"%x:%x" % (found.st_ino, stat.S_IFMT(found.st_mode))
        self._found = found

    @property
    def lane(self) -> Lane:
        return self.tree.lane

    @property
    def path(self) -> Path:
        return Path(self.place) if self.folder is None else self.folder.path / self.place

    def attributes(self) -> Attributes:
        try:
            found = self._found = self.path.lstat()
            links = found.st_nlink
        except FileNotFoundError:
            found, links = self._found, 0  # removed, and somebody has it open
        except OSError as error:
            raise of_os_error(error) from None
        who = self.tree.who
        return Attributes(found.st_mode, found.st_size, found.st_mtime_ns, links, who.uid, who.gid)

    def facts(self) -> Mapping[str, str]:
        if self.folder is not None:
            return {"state": "copying"}
        tree = self.tree
        state = "importing" if tree.is_taken else "doubtful" if tree.is_doubtful else "copying"
        return {"state": state} | ({"error": tree.refusal} if tree.refusal else {})

    def change(self, *, mode: int | None, mtime_ns: int | None, size: int | None) -> None:
        """In a thread."""
        self.tree.touch()
        path = self.path
        try:
            if size is not None:
                os.truncate(path, size)
            if mode is not None:
                ours = 0o700 if stat.S_ISDIR(self._found.st_mode) else 0o600
                path.chmod((mode & 0o7777) | ours)
            if mtime_ns is not None:
                os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
        except OSError as error:
            raise of_os_error(error) from None

    def moved(self, folder: GrownFolder, place: str) -> None:
        """It is elsewhere now, and all that is in it."""
        self.folder, self.place = folder, place


class GrownLink(Grown):
    """A symlink, as it was made."""

    @property
    def target(self) -> bytes:
        try:
            return os.readlink(os.fsencode(self.path))  # noqa: PTH115  # bytes
        except OSError as error:
            raise of_os_error(error) from None


class GrownFile(Grown):
    """A regular file."""

    def open(self) -> Content:
        return self.open_for(os.O_RDONLY, None)

    def open_for(self, flags: int, who: Who | None) -> GrownHandle:
        """For reading or writing; does not wait, as far as the staging folder does not."""
        writes = bool(flags & _WRITABLE)
        if writes:
            self.tree.enter()
        try:
            fd = os.open(
                self.path, (os.O_RDWR if writes else os.O_RDONLY) | flags & os.O_TRUNC | os.O_CLOEXEC
            )
        except OSError as error:
            if writes:
                self.tree.leave()
            if isinstance(error, FileNotFoundError):
                raise StaleNode(f"{self.place} is gone") from None
            raise of_os_error(error) from None
        return GrownHandle(self, fd, writes=writes, who=who)


class GrownHandle:
    """Somebody who reads or writes a file of a tree."""

    cacheable = False

    def __init__(self, file: GrownFile, fd: int, *, writes: bool, who: Who | None) -> None:
        self._file = file
        self._fd = fd
        self._writes = writes
        self._process = closing.process_of(who.process) if who is not None and writes else 0

    def read_nowait(self, offset: int, size: int) -> Buffer | None:
        return None

    async def read(self, offset: int, size: int) -> Buffer:
        tree = self._file.tree
        return await tree.waits.call(tree.lane, partial(os.pread, self._fd, size, offset))

    async def write(self, offset: int, data: bytes) -> int:
        tree = self._file.tree
        return await tree.waits.call(tree.lane, partial(self._write, offset, data))

    def _write(self, offset: int, data: bytes) -> int:
        self._file.tree.touch()
        done, view = len(data), memoryview(data)
        try:
            while view:
                count = os.pwrite(self._fd, view, offset)
                view, offset = view[count:], offset + count
        except OSError as error:
            self._file.tree.is_doubtful = True
            raise of_os_error(error) from None
        return done

    async def flush(self, inode: int) -> None:
        if self._writes and closing.was_killed(self._process):
            self._file.tree.is_doubtful = True
            logger.warning(
                "%s was being written by a program that was killed: go on with it, move it, or remove it; it is not "
                "imported by itself",
                self._file.path,
            )

    async def finish(self) -> None:
        pass

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
            if self._writes:
                self._file.tree.leave()


class GrownFolder(Grown):
    """A directory: the tree itself, or one in it."""

    settled = False

    @property
    def writing(self) -> Lane:
        return self.tree.lane

    def child(self, name: bytes) -> Node | None:
        place = os.fsdecode(name)
        try:
            found = (self.path / place).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise of_os_error(error) from None
        return self._node(place, found)

    child_nowait = child

    def children(self, known: Known) -> Iterator[Entry]:
        try:
            with os.scandir(self.path) as found:
                places = [entry.name for entry in found]
        except FileNotFoundError:
            raise StaleNode(f"{self.place} is gone") from None
        except OSError as error:
            raise of_os_error(error) from None
        for place in places:
            name = os.fsencode(place)
            node = self.child(name)
            if node is not None:
                yield name, node

    def _node(self, place: str, found: os.stat_result) -> Node:
        kinds = {stat.S_IFDIR: GrownFolder, stat.S_IFLNK: GrownLink}
        return kinds.get(stat.S_IFMT(found.st_mode), GrownFile)(self.tree, self, place, found)

    # Changes, in threads

    def make_file(self, name: bytes, mode: int, who: Who) -> tuple[Node, Writing]:
        self.tree.enter()
        path = self.path / os.fsdecode(name)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, (mode & 0o7777) | 0o600)
            self.tree.give(path)
            file = GrownFile(self.tree, self, path.name, os.fstat(fd))
        except OSError as error:
            self.tree.leave()
            raise self._refusal(error) from None
        return file, GrownHandle(file, fd, writes=True, who=who)

    def make_folder(self, name: bytes, mode: int, who: Who) -> Node:
        return self._made(name, lambda path: path.mkdir((mode & 0o7777) | 0o700))

    def make_link(self, name: bytes, target: bytes, who: Who) -> Node:
        return self._made(name, lambda path: path.symlink_to(os.fsdecode(target)))

    def make_name(self, name: bytes, node: Node) -> Node:
        if not isinstance(node, GrownFile) or node.tree is not self.tree:
            raise OtherPlace("a second name can only be given within the directory that is copied")
        return self._made(name, lambda path: os.link(node.path, path))

    def _made(self, name: bytes, make: _Act) -> Node:
        self.tree.touch()
        path = self.path / os.fsdecode(name)
        try:
            make(path)
            self.tree.give(path)
            return self._node(path.name, path.lstat())
        except OSError as error:
            raise self._refusal(error) from None

    def remove_file(self, name: bytes) -> None:
        self._removed(name, os.unlink)

    def remove_folder(self, name: bytes) -> None:
        self._removed(name, os.rmdir)

    def _removed(self, name: bytes, remove: _Act) -> None:
        self.tree.touch()
        try:
            remove(self.path / os.fsdecode(name))
        except OSError as error:
            raise self._refusal(error) from None

    def move(self, name: bytes, into: Node, new: bytes, *, replace: bool) -> None:
        if not isinstance(into, GrownFolder) or into.tree is not self.tree:
            raise OtherPlace("what is copied can only be moved within the directory that it is copied into")
        self.tree.touch()
        path = into.path / os.fsdecode(new)
        if not replace and os.path.lexists(path):
            raise NameTaken(f"{new!r} is there already")
        try:
            (self.path / os.fsdecode(name)).rename(path)
        except OSError as error:
            raise self._refusal(error) from None

    @staticmethod
    def _refusal(error: OSError) -> Exception:
        match error:
            case FileExistsError():
                return NameTaken(str(error))
            case FileNotFoundError():
                return NoSuchName(str(error))
            case IsADirectoryError() | NotADirectoryError():
                return WrongKind(str(error), error.errno or 0)
        if error.errno == errno.ENOTEMPTY:
            return NotEmpty(str(error))
        if error.errno == errno.EINVAL:
            return WrongKind(str(error), errno.EINVAL)  # a directory into itself
        return of_os_error(error)
