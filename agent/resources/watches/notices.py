"""What cgroup v1 tells by eventfd: use that crosses a threshold, memory pressure, and an OOM ("Memory Resource
Controller", kernel documentation, sections 9 to 11)."""

from __future__ import annotations

import os
import select
from collections.abc import Hashable, Iterator

import trio

from agent.resources.watches.source import CannotWatch
from agent.resources.watches.watched import V1Group, Watched

# Use counts the page cache, so it is near the limit often, and harmlessly.
_THRESHOLDS_PERCENT = (75, 90, 97)
# Not "low", which any reclaim of cache sends, ninety times in a tenth of a second.
_PRESSURE_LEVELS = ("medium", "critical")
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


def concern(watched: Watched) -> Hashable:
    return watched.v1_groups


def open_watch(watched: Watched) -> Notices:
    """Registers for all notices of all groups; raises CannotWatch if none can be had."""
    if not watched.v1_groups:
        raise CannotWatch("no cgroup v1 limits the memory")
    return Notices(watched.v1_groups)


class Notices:
    """An eventfd for each notice, and an epoll over them.

    A group that is removed sends each of them once more, and then nothing ever.
    """

    def __init__(self, groups: tuple[V1Group, ...]) -> None:
        self._epoll = select.epoll()
        self._eventfds: list[int] = []
        refusals: dict[str, str] = {}
        try:
            for group in groups:
                for name, argument in _notices(group):
                    try:
                        self._register(group.path, name, argument)
                    except OSError as error:  # of a group that went, or a file that is hidden or old
                        refusals[error.strerror or str(error)] = error.filename or f"{group.path}/{name}"
            refused = "".join(f"; not {path} and its like: {why}" for why, path in refusals.items())
            if not self._eventfds:
                raise CannotWatch("no notice can be registered" + refused)
        except BaseException:
            self.close()
            raise
        self.text = f"{len(self._eventfds)} notices of thresholds, pressure and OOM{refused}"

    def _register(self, group: str, name: str, argument: str) -> None:
        eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            file = os.open(f"{group}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                control = os.open(f"{group}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(control, f"{eventfd} {file} {argument}".rstrip().encode())
                finally:
                    os.close(control)
            finally:
                os.close(file)  # the kernel has taken what it needs of it
            self._epoll.register(eventfd, select.EPOLLIN)
        except BaseException:
            os.close(eventfd)
            raise
        self._eventfds.append(eventfd)

    async def wait(self) -> None:
        await trio.lowlevel.wait_readable(self._epoll.fileno())
        for eventfd, _ in self._epoll.poll(0):
            try:
                os.eventfd_read(eventfd)
            except BlockingIOError:
                pass

    def close(self) -> None:
        self._epoll.close()
        while self._eventfds:
            os.close(self._eventfds.pop())


def _notices(group: V1Group) -> Iterator[tuple[str, str]]:
    """The files to register for, each with its argument."""
    for percent in _THRESHOLDS_PERCENT:
        threshold = group.limit * percent // 100 // _PAGE_BYTES * _PAGE_BYTES
        yield "memory.usage_in_bytes", str(threshold)
    for level in _PRESSURE_LEVELS:
        yield "memory.pressure_level", level
    yield "memory.oom_control", ""
