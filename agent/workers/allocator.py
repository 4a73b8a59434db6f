"""The C library's allocator: malloc_trim(3), which Python does not have."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Returns to the kernel what was freed: what an idle process holds, and what the next task begins with. A
    millisecond or two; nothing where the C library has no such call."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
