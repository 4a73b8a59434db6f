"""Whether a file that is being closed is closed for good, and whether whoever wrote it was killed.

The kernel tells of each `close`, of duplicates too: a shell that redirects closes its own copy before the command has
written a byte. And a program that is killed closes its files like one that is done. `/proc` knows better: which
processes still have the file open, and that one is on its way out by a signal.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_PROC: Final = "/proc"
_PF_EXITING: Final = 0x4
_FLAGS, _EXIT_CODE = 6, 49  # fields of /proc/PID/stat, counted behind the name


def is_open_elsewhere(inode: int, ending: bytes, proc: str = _PROC) -> bool:
    """Whether a process that we may look at has a file of that number open for writing, whose path ends like that."""
    own = str(os.getpid())
    for process in _names(proc):
        if process.isdigit() and process != own:
            folder = f"{proc}/{process}/fd"
            for number in _names(folder):
                if _leads_to(f"{folder}/{number}", ending) and _is(
                    f"{proc}/{process}/fdinfo/{number}", inode
                ):
                    return True
    return False


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  # a thousand of them: names cost a tenth of what paths do
    except OSError:  # it has ended, or is another user's
        return []


def _leads_to(link: str, ending: bytes) -> bool:
    try:
        return os.fsencode(os.readlink(link)).endswith(ending)  # noqa: PTH115
    except OSError:
        return False


def _is(info: str, inode: int) -> bool:
    """Whether the file has that number, as far as the kernel tells, and is open for writing."""
    try:
        text = Path(info).read_text()
    except OSError:
        return False
    told = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    is_it = int(told.get("ino", inode)) == inode
    return is_it and bool(int(told.get("flags", "1"), 8) & os.O_ACCMODE)


def process_of(thread: int, proc: str = _PROC) -> int:
    """The process that a thread is of."""
    try:
        text = Path(f"{proc}/{thread}/status").read_text()
    except OSError:
        return thread
    return next((int(line[5:]) for line in text.splitlines() if line.startswith("Tgid:")), thread)


def was_killed(process: int, proc: str = _PROC) -> bool:
    """Whether it is ending by a signal just now; False, too, of one that has gone altogether."""
    try:
        fields = Path(f"{proc}/{process}/stat").read_bytes().rpartition(b")")[2].split()
        flags, code = int(fields[_FLAGS]), int(fields[_EXIT_CODE])
    except (OSError, IndexError, ValueError):
        return False
    return bool(flags & _PF_EXITING) and bool(code & 0x7F)
