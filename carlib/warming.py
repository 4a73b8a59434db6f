"""Small files read ahead in a thread of its own, while a disk is what a walk over them waits for.

Called by ``carlib.packer``.  A walk that opens and reads one small file after the other has the disk do one thing at a
time.  The thread goes the same way a little ahead, and all that it leaves behind is in the kernel's memory; so it can
change nothing of what is packed, and errors are left to the walk.  Where all is in memory it is not started.
"""

from __future__ import annotations

import contextlib
import os
import resource
import stat
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from carlib.limits import KIB

FILES_AHEAD: Final = 256
"""What the thread is ahead at most."""
_FILE_BYTES: Final = 64 * KIB
"""Read ahead of each file; the kernel reads ahead by itself in larger ones."""
_STEP: Final = 32
"""Files between one look at what had to be read and the next."""
_WAITED_FOR: Final = 64
"""Blocks of 512 bytes read from disks in a step: fewer are not worth a thread."""
_IDLE_FILES: Final = 1024
"""The thread ends when it finds so many in memory."""

_OPEN_FILE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

Listing = tuple[bytes, Sequence[bytes]]
"""A folder's path, and what is left of it, last first: names, each with a zero byte and the kind of file in digits."""


def blocks_read() -> int:
    """Blocks of 512 bytes that this thread had read from disks so far."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_inblock


class Warming:
    """Reads ahead for one walk, which calls :meth:`step` for each file."""

    def __init__(self, hidden: bool, read_so_far: Callable[[], int] = blocks_read) -> None:
        """``hidden``: whether names that begin with a dot are walked over."""
        self._hidden = hidden
        self._read_so_far = read_so_far
        self._thread: threading.Thread | None = None
        self._room = threading.Semaphore(0)
        self._stop = threading.Event()
        self._files = 0
        self._read = read_so_far()

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def step(self, folders: Iterable[Listing]) -> None:
        """The walk has come to a file; ``folders`` are those that it is in, from the outermost on."""
        self._files += 1
        if self._files % _STEP:
            return
        if self.is_running:
            self._room.release(_STEP)
            return
        read, self._read = self._read, self._read_so_far()
        if self._read - read >= _WAITED_FOR:
            self._room = threading.Semaphore(FILES_AHEAD)
            stack = [(path, list(listing)) for path, listing in folders]
            self._thread = threading.Thread(target=self._run, args=(stack, self._room), name="carfs-warming")
            self._thread.start()

    def close(self) -> None:
        """Wait for the thread, which may wait for the disk once more."""
        self._stop.set()
        self._room.release()
        if self._thread is not None:
            self._thread.join()

    def _run(self, stack: list[tuple[bytes, list[bytes]]], room: threading.Semaphore) -> None:
        files, idle, read = 0, 0, self._read_so_far()
        while stack and idle < _IDLE_FILES:
            path, listing = stack.pop()
            if not listing:
                continue
            name, _, kind = listing.pop().partition(b"\0")
            stack.append((path, listing))
            below = os.path.join(path, name)  # noqa: PTH118
            if int(kind) == stat.S_IFDIR:
                stack.append((below, self._listed(below)))
            elif int(kind) == stat.S_IFREG:
                room.acquire()
                if self._stop.is_set():
                    return
                _read_ahead(below)
                files += 1
                if not files % _STEP:
                    before, read = read, self._read_so_far()
                    idle = idle + _STEP if read == before else 0

    def _listed(self, path: bytes) -> list[bytes]:
        """Files and folders in a folder, as in :data:`Listing`; nothing where it cannot be read."""
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            kinds = ((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
            return sorted(
                (
                    b"%b\0%d" % (name, stat.S_IFDIR if is_folder else stat.S_IFREG)
                    for name, is_folder in kinds
                    if self._hidden or not name.startswith(b".")
                ),
                reverse=True,
            )
        return []


def _read_ahead(path: bytes) -> None:
    with contextlib.suppress(OSError):
        fd = os.open(path, _OPEN_FILE)
        try:
            os.posix_fadvise(fd, 0, _FILE_BYTES, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(fd)
