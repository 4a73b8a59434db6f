"""What is on its way into `imports/`, in a folder of this mount below `$CARFS_PATH/staging`.

    staging/mount-PID-XXXXXX/lock            locked for as long as the mount lives
                            /files/N         files being copied, until they are closed
                            /trees/NAME/     directories that are being filled

A mount that was killed leaves its folder. The next one removes the files, since nobody was told that they are there,
and takes over the trees: of those, somebody was.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import logging
import os
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from fusefs.errors import MountError, NameTaken, NoRoom, NotAllowed, NotWhole
from fusefs.tree import Node

logger = logging.getLogger(__name__)

_PREFIX = "mount-"


class Staging:
    """The folder, made when something is first put there, and what has which name in `imports/`; for any thread."""

    def __init__(self, base: Path, owner: tuple[int, int] | None = None) -> None:
        """`owner`: whose the files are to be, where the agent is another user than we are."""
        self._base = base
        self._owner = owner
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._held = -1
        self._numbers = itertools.count(1)
        self._entries: dict[bytes, Node] = {}

    def entries(self) -> Mapping[bytes, Node]:
        """What is on its way, by name."""
        return self._entries

    def put(self, name: bytes, node: Node) -> None:
        """Raises NameTaken."""
        with self._lock:
            if name in self._entries:
                raise NameTaken(f"{name!r} is on its way already")
            self._entries[name] = node

    def remove(self, name: bytes, node: Node) -> None:
        """Takes it out if it is still that."""
        with self._lock:
            if self._entries.get(name) is node:
                del self._entries[name]

    def rename(self, name: bytes, new: bytes) -> None:
        """Raises NameTaken."""
        with self._lock:
            if new in self._entries:
                raise NameTaken(f"{new!r} is on its way already")
            self._entries[new] = self._entries.pop(name)

    def new_file(self) -> tuple[int, Path]:
        """An empty file, open for reading and writing; raises MountError."""
        path = self._place("files") / str(next(self._numbers))
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise of_os_error(error) from None
        self.give(path)
        return fd, path

    def new_tree(self, name: bytes) -> Path:
        """An empty folder; raises MountError."""
        path = self._place("trees") / os.fsdecode(name)
        try:
            path.mkdir(mode=0o700)
        except OSError as error:
            raise of_os_error(error) from None
        self.give(path)
        return path

    def give(self, path: Path) -> None:
        """Makes it the agent's, where that is another user; raises MountError."""
        if self._owner is not None:
            try:
                os.chown(path, *self._owner, follow_symlinks=False)
            except OSError as error:
                raise of_os_error(error) from None

    def free_bytes(self) -> tuple[int, int]:
        """Bytes and files that there is room for."""
        try:
            found = os.statvfs(self._base)
        except OSError:
            return 0, 0
        return found.f_bavail * found.f_frsize, found.f_favail

    def take_over(self) -> list[tuple[bytes, Path]]:
        """Removes what mounts that have died were at, and gives the trees that they had, now ours."""
        found = []
        try:
            dead = list(self._dead())
            for folder, lock in dead:
                found += self._inherit(folder)
                os.close(lock)
        except OSError as error:
            logger.warning("what a mount has left in %s cannot be taken over: %s", self._base, error)
        except MountError as error:
            logger.warning("%s", error)
        return found

    def close(self) -> None:
        """Removes the folder, unless there are trees in it: the next mount finds them."""
        with self._lock:
            folder, self._folder = self._folder, None
        if folder is None:
            return
        shutil.rmtree(folder / "files", ignore_errors=True)
        try:
            (folder / "trees").rmdir()
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            pass
        os.close(self._held)

    def _place(self, kind: str) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = self._made()
            return self._folder / kind

    def _made(self) -> Path:
        """The folder is locked before it has its name, by which others look for it."""
        name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        beside = self._base / f".{name}"
        try:
            beside.mkdir(mode=0o700)
            for kind in ("files", "trees"):
                (beside / kind).mkdir(mode=0o700)
            self._held = os.open(beside / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._held, fcntl.LOCK_EX)
            for path in (beside, beside / "files", beside / "trees"):
                self.give(path)
            return beside.rename(self._base / name)
        except OSError as error:
            if isinstance(error, FileNotFoundError | PermissionError):
                message = f"nothing can be copied into this mount: {error.filename}: {error.strerror}"
                raise NotAllowed(message) from None
            raise of_os_error(error) from None

    def _dead(self) -> Iterator[tuple[Path, int]]:
        """Folders of mounts that are no more, locked by us now."""
        if not os.access(self._base, os.R_OK | os.W_OK | os.X_OK):
            return
        for folder in sorted(self._base.glob(f"{_PREFIX}*")):
            if folder == self._folder:
                continue
            try:
                lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            yield folder, lock

    def _inherit(self, folder: Path) -> list[tuple[bytes, Path]]:
        found = []
        for tree in sorted((folder / "trees").iterdir()):
            mine = self._place("trees") / tree.name
            number = 2
            while mine.exists():
                mine, number = mine.with_name(f"{tree.name}-{number}"), number + 1
            tree.rename(mine)
            found.append((os.fsencode(mine.name), mine))
        shutil.rmtree(folder)
        return found


def of_os_error(error: OSError) -> MountError:
    """What a failure to write is for whoever copies."""
    message = f"{error.filename or 'the staging folder'}: {error.strerror}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoRoom(message)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotAllowed(message)
    return NotWhole(message)
