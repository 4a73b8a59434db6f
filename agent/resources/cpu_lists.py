"""Lists of CPUs as the kernel writes them: `0-3,8,10-11` (cpuset(7), List format)."""

from __future__ import annotations

import re

_LIST = re.compile(r"[0-9]{1,6}(?:-[0-9]{1,6})?(?:,[0-9]{1,6}(?:-[0-9]{1,6})?)*")


def count(text: str) -> int | None:
    """How many CPUs are in a list; None if it is none, or has none."""
    text = text.strip()
    if _LIST.fullmatch(text) is None:
        return None
    total = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
        if int(last or first) < int(first):
            return None
    return total
