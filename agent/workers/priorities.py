"""The I/O class of this process: ioprio_set(2), which Python does not have."""

from __future__ import annotations

import ctypes
import platform

from agent.scheduler.requirement import IoClass

_NUMBERS = {"x86_64": 251, "aarch64": 30, "riscv64": 30}  # of the system call
_WHO_PROCESS = 1
_CLASSES = {IoClass.BEST_EFFORT: 2 << 13 | 4, IoClass.IDLE: 3 << 13}


def set_io_class(io_class: IoClass) -> bool:
    """Sets it for the thread that calls, and those that it starts; whether the kernel took it."""
    number = _NUMBERS.get(platform.machine())
    if number is None:
        return False
    result: int = ctypes.CDLL(None).syscall(number, _WHO_PROCESS, 0, _CLASSES[io_class])
    return result == 0
