"""What the executor does with a worker's group, and the group that there is where none can be had."""

from __future__ import annotations

from typing import Protocol


class Group(Protocol):
    """The group of one process, for as long as that lives. Nothing here waits or raises: what fails is in `problem`.

    In use: `make`, start the process, `take` it; for each task `limit`, and when it has ended `peak` and `oom_kills`;
    when the process has ended `remove`.
    """

    level: str  # as `Fact.level`: "system.slice/carfs.service/carfs-worker-…"; "": there is none
    problem: str  # why the last `take` or `limit` did nothing, in a sentence; "": it did

    def take(self, pid: int) -> bool:
        """Puts a process with all its threads in. What it has already stays counted where it was."""

    def limit(self, memory_bytes: int, swap_bytes: int = 0) -> bool:
        """From now on it may have so much memory (0: any amount), and on v2 so much of it again in swap.

        On v1 `memory_bytes` is of memory and swap together, which is what a reservation means; v2 can only limit
        each. False leaves the limit as it was; so it does for a process that has more already, which would be killed
        before it began (start another one). Begins `peak` and `oom_kills` anew.
        """

    def used(self) -> int:
        """Bytes it has now, without what the kernel can drop; 0: not known."""

    def peak(self) -> int:
        """The most bytes it had at once since the last `limit`; 0: not known.

        With the pages of files that it read or wrote: these fill whatever is there, so that this is at most what the
        task needed, and at the limit says nothing but for a process that was killed.
        """

    def oom_kills(self) -> int:
        """How often the kernel killed in it by its own limit, since the last `limit`; on v2 before Linux 5.17 it may be
        told twice for once. Whom a limit further up killed does not count: it took no more than it may."""

    def remove(self) -> None:
        """Ends what is left in it, and it. What cannot be removed yet is tried again with the next `make`."""


class NoGroup:
    """A group that does nothing."""

    level = ""

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def take(self, pid: int) -> bool:
        return False

    def limit(self, memory_bytes: int, swap_bytes: int = 0) -> bool:
        return False

    def used(self) -> int:
        return 0

    def peak(self) -> int:
        return 0

    def oom_kills(self) -> int:
        return 0

    def remove(self) -> None:
        return None
