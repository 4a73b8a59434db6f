"""Who goes first where there is not enough: the I/O class of this process (ioprio_set(2), which Python does not have),
and whom the kernel kills."""

from __future__ import annotations

import ctypes
import platform
from contextlib import suppress
from pathlib import Path

from agent.scheduler.requirement import IoClass

_NUMBERS = {"x86_64": 251, "aarch64": 30, "riscv64": 30}  # of the system call
_WHO_PROCESS = 1
_CLASSES = {IoClass.BEST_EFFORT: 2 << 13 | 4, IoClass.IDLE: 3 << 13}
_BADNESS = 500  # half of all memory there is counts as its own, besides what is
_MOST_BADNESS = 1000


def be_killed_first() -> None:
    """If memory of a group runs out as a whole, its limit lowered below what is used, the kernel is to take a worker,
    whose task is begun anew, and not the agent, which may be bigger."""
    own = Path("/proc/self/oom_score_adj")
    with suppress(OSError, ValueError):  # without /proc
        own.write_text(str(min(_MOST_BADNESS, int(own.read_text()) + _BADNESS)))


def set_io_class(io_class: IoClass) -> bool:
    """Sets it for the thread that calls, and those that it starts; whether the kernel took it."""
    number = _NUMBERS.get(platform.machine())
    if number is None:
        return False
    result: int = ctypes.CDLL(None).syscall(number, _WHO_PROCESS, 0, _CLASSES[io_class])
    return result == 0
