"""How the C library gives memory back."""

from __future__ import annotations

import ctypes
from typing import Final

BIG_BYTES: Final = 256 * 1024
_M_MMAP_THRESHOLD: Final = -3  # mallopt(3)


def return_big_buffers() -> None:
    """Has glibc map buffers from `BIG_BYTES` on for themselves, so that they are the system's again when freed.

    Otherwise it takes the size of the biggest one that was freed (up to 32 MiB) for what is usual, and keeps blocks
    of a MiB, of which an agent has many for a moment, in heaps that do not shrink. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, BIG_BYTES)
