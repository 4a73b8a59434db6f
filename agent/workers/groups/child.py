"""A group below ours, on either hierarchy: what both have in common. `v1` and `v2` have the rest."""

from __future__ import annotations

import logging
import time
from typing import Protocol

from agent.resources.droppable import droppable
from agent.workers.groups.accounts import keyed
from agent.workers.groups.tree import Tree

logger = logging.getLogger(__name__)

_REMOVE_TRIES = 20
_REMOVE_PAUSE_S = 0.001  # a killed process is out of its group within one of these as a rule


class Kernel(Protocol):
    """One of the two hierarchies, for a group at `folder`. All raise OSError."""

    @property
    def is_v2(self) -> bool: ...

    def limit(self, folder: str, memory_bytes: int, swap_bytes: int) -> None: ...

    def usage(self, folder: str) -> int:
        """All bytes that are charged to it."""

    def begin(self, folder: str) -> None:
        """Begins the peak anew, where that can be done."""

    def peak(self, folder: str) -> int: ...

    def oom_kills(self, folder: str) -> int:
        """Ever, by its own limit."""

    def kill(self, folder: str) -> None:
        """All in it."""

    def forget(self, folder: str) -> None:
        """Lets go of what was kept for it."""


class ChildGroup:
    """A `Group`."""

    def __init__(self, tree: Tree, kernel: Kernel, folder: str, level: str) -> None:
        self.level = level
        self.problem = ""
        self.folder = folder
        self.is_leaving = False  # `remove` was called
        self._is_removed = False
        self._tree = tree
        self._kernel = kernel
        self._oom_kills_before = 0

    def take(self, pid: int) -> bool:
        try:
            self._tree.write(f"{self.folder}/cgroup.procs", str(pid))
        except ProcessLookupError:
            return self._failed(f"process {pid} had ended before it could be put in {self.level}")
        except OSError as error:
            return self._failed(f"process {pid} cannot be put in {self.level}: {error.strerror}")
        self.problem = ""
        return True

    def limit(self, memory_bytes: int, swap_bytes: int = 0) -> bool:
        try:
            if memory_bytes:
                used = self._used()
                if used > memory_bytes:
                    return self._failed(
                        f"{self.level} has {used} bytes already, and was to have {memory_bytes}"
                    )
            self._kernel.limit(self.folder, memory_bytes, swap_bytes)
            self._kernel.begin(self.folder)
            self._oom_kills_before = self._kernel.oom_kills(self.folder)
        except OSError as error:
            return self._failed(f"{self.level} cannot be limited to {memory_bytes} bytes: {error.strerror}")
        self.problem = ""
        return True

    def used(self) -> int:
        try:
            return self._used()
        except (OSError, ValueError):
            return 0

    def _used(self) -> int:
        # The statistics first: if the usage falls between the two reads it must not fall below what is droppable.
        stat = keyed(self._tree.read(f"{self.folder}/memory.stat"))
        return max(0, self._kernel.usage(self.folder) - droppable(stat, is_v2=self._kernel.is_v2))

    def peak(self) -> int:
        try:
            return self._kernel.peak(self.folder)
        except (OSError, ValueError):
            return 0

    def oom_kills(self) -> int:
        try:
            return max(0, self._kernel.oom_kills(self.folder) - self._oom_kills_before)
        except OSError:
            return 0

    def remove(self) -> None:
        self.is_leaving = True
        if self.try_remove():
            return
        try:
            self._kernel.kill(self.folder)
        except OSError as error:
            logger.debug("%s: cannot end what is in it: %s", self.level, error)
        for _ in range(_REMOVE_TRIES):
            if self.try_remove():
                return
            time.sleep(_REMOVE_PAUSE_S)
        logger.debug("%s: a process in it is still ending", self.level)

    def try_remove(self) -> bool:
        """Whether it is gone, now at the latest."""
        if self._is_removed:
            return True
        try:
            self._tree.remove(self.folder)
        except FileNotFoundError:
            pass
        except OSError:
            return False
        self._kernel.forget(self.folder)
        self._is_removed = True
        return True

    def _failed(self, problem: str) -> bool:
        self.problem = problem
        logger.info("%s", problem)
        return False
