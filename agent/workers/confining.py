"""Limits of its own for each worker process, where the system lets us set them."""

from __future__ import annotations

from typing import Protocol


class Group(Protocol):
    """A group of the kernel's (cgroup) for one process and its children. Its calls are short; all raise OSError."""

    def take(self, pid: int) -> None:
        """Puts a process in."""

    def limit(self, memory_bytes: int) -> None:
        """What it may take from now on: whoever takes more is killed, alone."""

    def used(self) -> int:
        """Bytes that it takes now, without what the kernel can drop."""

    def peak(self) -> int:
        """The most that it has taken; 0: not known."""

    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed for want of memory."""

    def remove(self) -> None:
        """Removes it, once its processes are gone."""


class Groups(Protocol):
    """Makes groups; `agent.workers.groups`."""

    @property
    def possible(self) -> bool:
        """Whether there can be any here."""

    @property
    def reason(self) -> str:
        """Why not, in a sentence; empty where they are."""

    def make(self, name: str) -> Group:
        """A new one; raises OSError."""


class Unconfined:
    """`Groups` where there are none."""

    possible = False

    def __init__(self, reason: str = "not asked for") -> None:
        self.reason = reason

    def make(self, name: str) -> Group:
        raise OSError(self.reason)
