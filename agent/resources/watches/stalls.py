"""Tasks that wait for memory, by a trigger of the kernel's PSI ("Pressure Stall Information", kernel documentation).

A pressure file reports by POLLPRI alone, which trio cannot wait for: so an epoll of our own stands between, and trio
waits for that to be readable. The look at it takes the event: that it woke is all there is to know.
"""

from __future__ import annotations

import os
import select
from collections.abc import Hashable

import trio

from agent.resources.watches.source import CannotWatch
from agent.resources.watches.watched import Watched

# Some task has waited for a twentieth of the window. Without CAP_SYS_RESOURCE the kernel takes only windows of whole
# 2 s, and an old one none at all.
_TRIGGERS = (b"some 50000 1000000\0", b"some 100000 2000000\0")


def concern(watched: Watched) -> Hashable:
    return watched.pressure_files


def open_watch(watched: Watched) -> Stalls:
    """A trigger on the first file that takes one; raises CannotWatch."""
    if not watched.pressure_files:
        raise CannotWatch("the kernel has no PSI")
    refusals = []
    for path in watched.pressure_files:
        try:
            watch = Stalls(path)
        except OSError as error:
            refusals.append(f"{path}: {error.strerror}")
            continue
        watch.text += "".join(f"; not by {refusal}" for refusal in refusals)
        return watch
    raise CannotWatch("no trigger on " + ", ".join(refusals))


class Stalls:
    """A trigger, and the epoll that makes it something to wait for."""

    def __init__(self, path: str) -> None:
        self._pressure = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            window_s = _set_trigger(self._pressure)
            self._epoll = select.epoll()
        except BaseException:
            os.close(self._pressure)
            raise
        self.text = f"tasks that wait for 5 % of {window_s} s, by {path}"
        self._path = path
        self._epoll.register(self._pressure, select.EPOLLPRI)

    async def wait(self) -> None:
        await trio.lowlevel.wait_readable(self._epoll.fileno())
        # Of a group that was removed, the file is in error for ever: whoever went on waiting would never sleep again.
        if any(events & select.EPOLLERR for _, events in self._epoll.poll(0)):
            raise CannotWatch(f"the group of {self._path} is gone")

    def close(self) -> None:
        self._epoll.close()
        os.close(self._pressure)


def _set_trigger(descriptor: int) -> int:
    """Sets the narrowest trigger that is allowed and gives its window in seconds; raises OSError."""
    narrow, wide = _TRIGGERS
    try:
        os.write(descriptor, narrow)
    except OSError:
        os.write(descriptor, wide)
        return 2
    return 1
