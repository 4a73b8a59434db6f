"""The memory controller of cgroup v2 ("Control Group v2" in the kernel's documentation)."""

from __future__ import annotations

from agent.workers.groups.accounts import keyed
from agent.workers.groups.tree import Tree

_UNLIMITED = "max"
_OPTIONAL = {"oom.group", "swap.max"}  # since Linux 4.19; in a kernel with swap
# memory.high is 1/32 below memory.max. From there on the kernel takes pages back before the limit is hit: a task that
# reads 300 MiB in a group of 64 hits it 1160 times without, never with it, and is as fast. But who has nothing that
# could be taken back is slowed down instead, by the square of what it is over: one that lies about its memory and was
# given 512 MiB dies after 6 s either way here (emulated), after 23 s with 1/16, and with 1/10 lives on at a crawl.
_HIGH_SHARE = 32


class V2:
    """A `Kernel`."""

    is_v2 = True

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._peaks: dict[str, int] = {}  # what memory.peak said when the task began

    def limit(self, folder: str, memory_bytes: int, swap_bytes: int) -> None:
        if memory_bytes:
            high = memory_bytes - memory_bytes // _HIGH_SHARE
            values = {"swap.max": str(swap_bytes), "max": str(memory_bytes), "high": str(high)}
        else:
            values = dict.fromkeys(("swap.max", "max", "high"), _UNLIMITED)
        for name, value in {"oom.group": "1", **values}.items():
            try:
                self._tree.write(f"{folder}/memory.{name}", value)
            except FileNotFoundError:
                if name not in _OPTIONAL:
                    raise

    def usage(self, folder: str) -> int:
        return int(self._tree.read(f"{folder}/memory.current"))

    def begin(self, folder: str) -> None:
        self._peaks[folder] = self._peak(folder)

    def peak(self, folder: str) -> int:
        """Since Linux 5.19. It can be set back since 6.12, but only for a descriptor that stays open; instead a peak
        that has not risen since the task began counts as not known: some task before had more."""
        peak = self._peak(folder)
        return peak if peak > self._peaks.get(folder, 0) else 0

    def _peak(self, folder: str) -> int:
        try:
            return int(self._tree.read(f"{folder}/memory.peak"))
        except FileNotFoundError:
            return 0

    def oom_kills(self, folder: str) -> int:
        """Of a group that is killed whole the kernel counts one process twice in `oom_kill`; the other count came with
        Linux 5.17. Both also count who was killed since a group above had no more; `oom` is of the own limit alone."""
        events = keyed(self._tree.read(f"{folder}/memory.events"))
        kills = events.get("oom_group_kill", events.get("oom_kill", 0))
        return min(kills, events.get("oom", kills))

    def kill(self, folder: str) -> None:
        try:
            self._tree.write(f"{folder}/cgroup.kill", "1")  # since Linux 5.14
        except FileNotFoundError:
            for pid in self._tree.read(f"{folder}/cgroup.procs").split():
                try:
                    self._tree.kill(int(pid))
                except ProcessLookupError:
                    pass

    def forget(self, folder: str) -> None:
        self._peaks.pop(folder, None)
