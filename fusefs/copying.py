"""One file that is copied into `imports/`: written to a staged file, imported when it is closed for good.

    create ──► write … ──► flush ─── others have it open (a duplicate) ────────────► goes on
                             ├────── whoever wrote it was killed ───────────────────► nothing is left
                             ├────── a write has failed ────────────────────────────► that error, nothing is left
                             └────── else: the agent imports it, however long it takes ──► done, or its error

So `close` tells whoever copies that the import is there, on disk, or why not.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import trio

from carlib.header import PRAGMA
from fusefs import closing
from fusefs.attributes import Attributes
from fusefs.errors import MountError, NotWhole
from fusefs.staging import Staging, of_os_error
from fusefs.tree import Buffer, Content, Who
from fusefs.waits import Lane, Waits

FINISHING: Final = 64
"""Copies that are imported at once, each of which waits in a thread."""


class Importing(Protocol):
    """What a copy needs of the agent."""

    def copy(self, path: Path, name: str) -> None:
        """See `AgentChanges.copy`."""

    def check_here(self) -> None:
        """Raises AgentAway where the agent is known to be: better now than after all is copied."""


class Copies:
    """What all copies of a mount share."""

    def __init__(self, staging: Staging, agent: Importing, waits: Waits, lane: Lane) -> None:
        self.staging = staging
        self.agent = agent
        self.waits = waits
        self.lane = lane
        self.finishing = trio.CapacityLimiter(FINISHING)
        self.imported: Callable[[bytes], None] = lambda _name: None
        """Is told of each name that is a directory from now on."""

    def begin(self, name: bytes, mode: int, who: Who) -> Copy:
        """In a thread; raises MountError."""
        fd, path = self.staging.new_file()
        copy = Copy(self, name, fd, path, mode, who)
        try:
            self.staging.put(name, copy)
        except MountError:
            copy.discard()
            copy.close()
            raise
        return copy


class Copy:
    """The node, and the one handle that writes to it."""

    lasting = False

    def __init__(self, copies: Copies, name: bytes, fd: int, path: Path, mode: int, who: Who) -> None:
        self.name = name
        self.is_importing = False
        self.version = f"copy:{path.name}".encode()
        self._copies = copies
        self._fd = fd
        self._path = path
        self._mode = stat.S_IFREG | (mode & 0o777)
        self._who = who
        self._process = closing.process_of(who.process)
        self._size = 0
        self._mtime_ns = time.time_ns()
        self._closing = trio.Lock()
        self._failure: Exception | None = None
        self._over = False
        self._is_removed = False

    cacheable = False

    # The node

    @property
    def lane(self) -> Lane:
        return self._copies.lane

    def attributes(self) -> Attributes:
        return Attributes(self._mode, self._size, self._mtime_ns, uid=self._who.uid, gid=self._who.gid)

    def facts(self) -> Mapping[str, str]:
        return {"state": "copying"}

    def open(self) -> Content:
        return Glance(self)

    def change(self, *, mode: int | None, mtime_ns: int | None, size: int | None) -> None:
        """In a thread: permissions and times are taken note of as long as it is a file; an import has none."""
        if size is not None:
            try:
                os.ftruncate(self._fd, size)
            except OSError as error:
                self._failure = of_os_error(error)
                raise self._failure from None
            self._size = size
        if mode is not None:
            self._mode = stat.S_IFREG | (mode & 0o777)
        self._mtime_ns = time.time_ns() if mtime_ns is None else mtime_ns

    # The handle

    def read_nowait(self, offset: int, size: int) -> Buffer | None:
        return os.pread(self._fd, size, offset)

    async def read(self, offset: int, size: int) -> Buffer:
        return os.pread(self._fd, size, offset)

    async def write(self, offset: int, data: bytes) -> int:
        if self._failure is not None:
            raise self._failure
        if self._over and not self._is_removed:
            raise NotWhole(f"{self.name!r} was closed and imported, and is written to again")
        try:
            await self._copies.waits.call(self._copies.lane, partial(self._write, offset, data))
        except Exception as error:
            self._failure = error
            raise
        self._size = max(self._size, offset + len(data))
        self._mtime_ns = time.time_ns()
        return len(data)

    def _write(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                count = os.pwrite(self._fd, view, offset)
                view, offset = view[count:], offset + count
        except OSError as error:
            raise of_os_error(error) from None

    async def flush(self, inode: int) -> None:
        """At each close; waits for the import at the last one."""
        async with self._closing:
            if self._failure is not None:
                self.discard()
                raise self._failure
            if self._over:
                return
            if closing.was_killed(self._process):
                self._failure = NotWhole(f"whoever copied {self.name!r} was killed")
                self.discard()
                return
            ending = b"/" + self.name
            if await trio.to_thread.run_sync(
                closing.is_open_elsewhere, inode, ending, abandon_on_cancel=True
            ):
                return
            await self._finish()

    async def finish(self) -> None:
        """When nobody has it open any more."""
        async with self._closing:
            if self._failure is None and not self._over:
                await self._finish()
            elif not self._over:
                self.discard()

    async def _finish(self) -> None:
        self.is_importing = True
        try:
            await trio.to_thread.run_sync(
                self._import, limiter=self._copies.finishing, abandon_on_cancel=True
            )
        except Exception as error:
            self._failure = error
            raise
        finally:
            self.discard()

    def _import(self) -> None:
        """In a thread."""
        try:
            if self._looks_like_car():
                os.fsync(self._fd)  # it will be the import itself, and not what an import is made of
        except OSError as error:
            raise of_os_error(error) from None
        self._copies.agent.copy(self._path, self.name.decode())

    def _looks_like_car(self) -> bool:
        head = os.pread(self._fd, 64, 0)
        return head.startswith(PRAGMA) or b"eroots" in head

    def remove(self) -> None:
        """Somebody has removed it: whoever writes to it goes on, and nothing comes of it."""
        self._is_removed = True
        self.discard()

    def discard(self) -> None:
        """Nothing of it is left, but for what was imported."""
        if not self._over:
            self._over = True
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            self._copies.staging.remove(self.name, self)
            self._copies.imported(self.name)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Glance:
    """Somebody who reads what is being copied, as far as it is."""

    cacheable = False

    def __init__(self, copy: Copy) -> None:
        self._copy = copy

    def read_nowait(self, offset: int, size: int) -> Buffer | None:
        return self._copy.read_nowait(offset, size)

    async def read(self, offset: int, size: int) -> Buffer:
        return await self._copy.read(offset, size)

    def close(self) -> None:
        pass
