"""The user's files that references point into: opened below one folder, and known by a fingerprint.

A fingerprint says at once, and without reading, that a file was changed since it was imported.  Reading does not ask
it: of a changed file those blocks that did not change are still right, and the hash tells which.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from threading import Lock
from typing import Final, Self

from carlib.errors import CarError

_OPEN_FILES: Final = 64


class Status(IntEnum):
    """What is wrong with a reference; the numbers are go-filestore's."""

    OK = 0
    ERROR = 10
    """The file cannot be read."""
    NO_FILE = 11
    CHANGED = 12
    """The file is another one now, or shorter, or what lies there has another hash."""
    OTHER = 20
    """The reference itself is not to be followed: it leads out of the folder."""
    MISSING = 30


class BrokenReference(CarError):
    """A block is in a user's file that no longer has it; ``status`` says why, ``path`` which file."""

    def __init__(self, status: Status, path: str, message: str, *, offset: int | None = None) -> None:
        super().__init__(message, source=path, offset=offset)
        self.status = status
        self.path = path


@dataclass(frozen=True, slots=True)
class Target:
    """One referenced file: ``path`` relative to the folder, in bytes, and its fingerprint when it was imported.

    ``size``, ``mtime_ns`` and ``inode`` are 0 where they were not recorded (Lotus recorded none).
    """

    path: bytes
    size: int = 0
    mtime_ns: int = 0
    inode: int = 0

    @classmethod
    def of(cls, path: bytes, found: os.stat_result) -> Self:
        return cls(path, found.st_size, found.st_mtime_ns, found.st_ino)

    def matches(self, found: os.stat_result) -> bool:
        """Whether the file is the one that was imported, as far as was recorded."""
        recorded = (self.size, self.mtime_ns, self.inode)
        return not self.mtime_ns or recorded == (found.st_size, found.st_mtime_ns, found.st_ino)


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a block's bytes are: ``size`` bytes at ``offset`` of ``target``."""

    target: Target
    offset: int
    size: int


class Targets:
    """The referenced files below ``folder``, a few of them open; used from several threads."""

    def __init__(self, folder: Path) -> None:
        """Paths that lead out of ``folder``, through symlinks too, are not followed."""
        self._folder = os.path.realpath(os.fsencode(folder))
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._lock = Lock()

    @property
    def folder(self) -> Path:
        """Resolved."""
        return Path(os.fsdecode(self._folder))

    def look(self, target: Target) -> os.stat_result:
        """The file's; raises BrokenReference."""
        try:
            found = os.stat(self._resolve(target))  # noqa: PTH116  bytes
        except FileNotFoundError:
            raise self._broken(Status.NO_FILE, target, "the file is gone") from None
        except OSError as error:
            raise self._broken(Status.ERROR, target, f"cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(found.st_mode):
            raise self._broken(Status.ERROR, target, "is no file any more")
        return found

    def read(self, reference: Reference) -> bytes:
        """The referenced bytes, not verified; raises BrokenReference."""
        data = self.peek(reference.target, reference.offset, reference.size)
        if len(data) != reference.size:
            message = "the file is shorter than when it was imported"
            raise self._broken(Status.CHANGED, reference.target, message)
        return data

    def peek(self, target: Target, offset: int, size: int) -> bytes:
        """At most ``size`` bytes at ``offset``, fewer at the end of the file; raises BrokenReference."""
        with self.opened(target) as fd:
            try:
                return os.pread(fd, size, offset)
            except OverflowError:
                return b""  # no file is that long
            except OSError as error:
                raise self._broken(Status.ERROR, target, f"cannot be read: {error.strerror}") from None

    @contextlib.contextmanager
    def opened(self, target: Target) -> Iterator[int]:
        """A descriptor of the file that nobody else uses meanwhile; raises BrokenReference."""
        fd = self._borrow(target)
        try:
            yield fd
        finally:
            self._give_back(target, fd)

    def status(self, target: Target) -> Status:
        """What the file looks like from outside; its data is not read."""
        try:
            return Status.OK if target.matches(self.look(target)) else Status.CHANGED
        except BrokenReference as error:
            return error.status

    def forget(self, target: Target) -> bool:
        """Open the file anew when it is read next; whether it was open."""
        with self._lock:
            fd = self._open.pop(target.path, -1)
        if fd >= 0:
            os.close(fd)
        return fd >= 0

    def close(self) -> None:
        """Let go of all files; they are opened again when they are read."""
        with self._lock:
            opened, self._open = self._open, OrderedDict()
        for fd in opened.values():
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _resolve(self, target: Target) -> bytes:
        inside = self._folder.rstrip(b"/") + b"/"
        if b"\0" in target.path:
            raise self._broken(Status.OTHER, target, "is no path: there is a NUL in it")
        path = os.path.realpath(os.path.join(self._folder, target.path))  # noqa: PTH118  bytes
        if not path.startswith(inside):
            raise self._broken(Status.OTHER, target, f"leads out of {os.fsdecode(self._folder)}")
        return path

    def _borrow(self, target: Target) -> int:
        """A descriptor that nobody else has until it is given back."""
        with self._lock:
            fd = self._open.pop(target.path, -1)
        if fd >= 0:
            return fd
        try:
            return os.open(self._resolve(target), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise self._broken(Status.NO_FILE, target, "the file is gone") from None
        except OSError as error:
            raise self._broken(Status.ERROR, target, f"cannot be opened: {error.strerror}") from None

    def _give_back(self, target: Target, fd: int) -> None:
        with self._lock:
            surplus = self._open.pop(target.path, None)
            self._open[target.path] = fd
            oldest = self._open.popitem(last=False)[1] if len(self._open) > _OPEN_FILES else None
        for each in (surplus, oldest):
            if each is not None:
                os.close(each)

    def _broken(self, status: Status, target: Target, message: str) -> BrokenReference:
        return BrokenReference(status, os.fsdecode(os.path.join(self._folder, target.path)), message)  # noqa: PTH118
