"""How much memory a process takes of its own, now and at most; used in the worker and, by its number, in the agent.

Of its own is what the kernel cannot drop: anonymous and shared memory, and what of it was swapped out. Mapped files
(libraries, segments of the inverted index) are page cache, which is shared and goes when others need it.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Self

INTERVAL_S = 0.05
_OWN = ("RssAnon", "RssShmem", "VmSwap")
_RESET_PEAK = "5"  # proc(5), /proc/pid/clear_refs: VmHWM begins anew


def own_bytes(pid: int | str) -> int:
    """What the process has now; 0 if it is gone."""
    found = _status(pid)
    return sum(found.get(name, 0) for name in _OWN)


class PeakWatch:
    """The peak of this process during a block.

    The kernel keeps the peak of all that is resident (VmHWM), files included, and we look now and then at both parts.
    What rose and fell between two looks is in the kernel's number alone, and is counted as our own.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._most_resident = 0
        self.files_bytes = 0  # mapped when most was resident
        self._is_reset = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        try:
            Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
            self._is_reset = True
        except OSError:  # a kernel without it: what we see must do
            pass
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        self._thread.join()
        found = self._look()
        if self._is_reset:
            self.peak_bytes = max(self.peak_bytes, found.get("VmHWM", 0) - self.files_bytes)

    def _watch(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self._look()

    def _look(self) -> dict[str, int]:
        found = _status("self")
        resident = found.get("VmRSS", 0)
        if resident >= self._most_resident:
            self._most_resident, self.files_bytes = resident, found.get("RssFile", 0)
        self.peak_bytes = max(self.peak_bytes, sum(found.get(name, 0) for name in _OWN))
        return found


def _status(pid: int | str) -> dict[str, int]:
    """The sizes in /proc/PID/status, in bytes."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    sizes = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            sizes[name] = int(value[:-3]) * 1024
    return sizes
