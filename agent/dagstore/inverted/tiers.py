"""Which segments are merged into the next one: few to search, each entry rewritten a few times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

RATIO: Final = 2
"""Each segment is kept larger than this many times all smaller ones together: at most log3(n) segments, and of 1,000
equal additions each entry is rewritten 8 times (simulated)."""
FEW: Final = 3
"""So many segments are left alone, whatever their sizes."""
MOST: Final = 6
"""There are never more: each costs a look-up 1 µs."""


def to_merge(sizes: Sequence[int], added: int = 0) -> list[int]:
    """The places in `sizes` (live entries of each segment) to merge with `added` new entries into one segment."""
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    if len(order) + (added > 0) <= FEW:
        return []
    total, end = added, 0
    for place, number in enumerate(order):
        if total and sizes[number] <= RATIO * total:
            end = place + 1
        total += sizes[number]
    end = max(end, len(order) + 1 - MOST)
    if end == 1 and not added:
        return []
    return order[:end]


def is_wasteful(entries: int, dead: int) -> bool:
    """Whether a segment should be rewritten for what is dead in it alone."""
    return dead * 2 > entries
