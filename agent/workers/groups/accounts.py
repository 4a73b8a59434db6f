"""What the files of a memory group say, as numbers."""

from __future__ import annotations


def keyed(text: str) -> dict[str, int]:
    """`name value` on a line each: memory.stat, memory.events, memory.oom_control."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
