"""The memory controller of cgroup v1 ("Memory Resource Controller" in the kernel's documentation)."""

from __future__ import annotations

from agent.workers.groups.accounts import keyed
from agent.workers.groups.tree import Tree

_MEMORY = "memory.limit_in_bytes"
_TOGETHER = "memory.memsw.limit_in_bytes"  # memory and swap; absent on a kernel without swap accounting
_UNLIMITED = "-1"
_FAR = 32  # from the limit is what is more than this part of it below


class V1:
    """A `Kernel`."""

    is_v2 = False

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def limit(self, folder: str, memory_bytes: int, swap_bytes: int) -> None:
        """The limit of both together may never be below that of memory, so the order depends on which way it goes.

        There is nothing like memory.oom.group here, nor a need for it: one process is all that a group of ours holds.
        """
        text = str(memory_bytes) if memory_bytes else _UNLIMITED
        read, write = self._tree.read, self._tree.write
        try:
            together = int(read(f"{folder}/{_TOGETHER}"))
        except FileNotFoundError:
            write(f"{folder}/{_MEMORY}", text)
            return
        first, second = (_MEMORY, _TOGETHER) if 0 < memory_bytes <= together else (_TOGETHER, _MEMORY)
        before = read(f"{folder}/{first}").strip()
        write(f"{folder}/{first}", text)
        try:
            write(f"{folder}/{second}", text)
        except OSError:
            write(f"{folder}/{first}", before)
            raise

    def usage(self, folder: str) -> int:
        return int(self._tree.read(f"{folder}/memory.usage_in_bytes"))

    def begin(self, folder: str) -> None:
        for name in ("memory.max_usage_in_bytes", "memory.memsw.max_usage_in_bytes"):
            try:
                self._tree.write(f"{folder}/{name}", "0")
            except FileNotFoundError:
                pass

    def peak(self, folder: str) -> int:
        try:
            return int(self._tree.read(f"{folder}/memory.memsw.max_usage_in_bytes"))
        except FileNotFoundError:
            return int(self._tree.read(f"{folder}/memory.max_usage_in_bytes"))

    def oom_kills(self, folder: str) -> int:
        """Counted since Linux 4.13; before, a killed process cannot be told from one that somebody killed. What was far
        from its own limit was killed since a group above had no more. (`failcnt` would say so, and is 0 in Linux 6.18.)
        """
        kills = keyed(self._tree.read(f"{folder}/memory.oom_control")).get("oom_kill", 0)
        try:
            limit, peak = int(self._tree.read(f"{folder}/{_MEMORY}")), self.peak(folder)
        except FileNotFoundError:
            return kills
        return kills if peak >= limit - limit // _FAR else 0

    def kill(self, folder: str) -> None:
        for pid in self._tree.read(f"{folder}/cgroup.procs").split():
            try:
                self._tree.kill(int(pid))
            except ProcessLookupError:
                pass

    def forget(self, folder: str) -> None:
        return None
