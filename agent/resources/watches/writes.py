"""Writes to the files of cgroups, by inotify: limits that somebody sets, and the counters of v2 that the kernel bumps.

`systemctl set-property` writes memory.max, and that is a write as to any file: seen at once, on v1 and v2, and from
whichever cgroup namespace it comes, as all mounts of a hierarchy share their inodes. The kernel itself reports
memory.events, memory.events.local and cgroup.events in the same way. It says nothing when a watched group goes.

The standard library has no inotify, hence ctypes.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Hashable, Iterable

import trio

from agent.resources.watches.source import CannotWatch
from agent.resources.watches.watched import Watched

EVENT_FILES = ("memory.events", "memory.events.local", "cgroup.events")

_IN_MODIFY = 0x2  # linux/inotify.h
_BUFFER_BYTES = 64 * 1024
_libc = ctypes.CDLL(None, use_errno=True)


def files(watched: Watched) -> tuple[str, ...]:
    """The files to watch. Each by itself, not its directory: for a file that nobody holds the kernel reports no counter
    to the directory either."""
    events = (f"{group}/{name}" for group in watched.v2_groups for name in EVENT_FILES)
    return tuple(dict.fromkeys((*watched.limit_files, *events)))


def concern(watched: Watched) -> Hashable:
    return files(watched)


def open_watch(watched: Watched) -> Writes:
    """Watches those of the files that are there; raises CannotWatch if none is, OSError."""
    wanted = files(watched)
    if not wanted:
        raise CannotWatch("this process is in no cgroup that is to be seen here")
    return Writes(wanted)


class Writes:
    """An inotify descriptor."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._descriptor = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        try:
            self.text = self._add(paths)
        except BaseException:
            self.close()
            raise

    def _add(self, paths: Iterable[str]) -> str:
        count, errors = 0, {}
        for path in paths:
            try:
                _checked(_libc.inotify_add_watch(self._descriptor, os.fsencode(path), _IN_MODIFY))
                count += 1
            except FileNotFoundError:
                pass  # an old kernel has no memory.events.local, the root no memory.events
            except OSError as error:
                errors[error.strerror or str(error)] = path
        refused = "".join(f"; not {path} and its like: {why}" for why, path in errors.items())
        if not count:
            raise CannotWatch("no file of a cgroup can be watched" + refused)
        return f"writes to {count} files of cgroups{refused}"

    async def wait(self) -> None:
        await trio.lowlevel.wait_readable(self._descriptor)
        # Which file it was does not matter, nor whether the queue has run over: all is read anew.
        try:
            while os.read(self._descriptor, _BUFFER_BYTES):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        os.close(self._descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        hint = {
            errno.EMFILE: " (fs.inotify.max_user_instances)",
            errno.ENOSPC: " (fs.inotify.max_user_watches)",
        }
        raise OSError(number, os.strerror(number) + hint.get(number, ""))
    return result
