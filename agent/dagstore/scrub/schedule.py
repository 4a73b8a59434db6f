"""When which shard is verified, and how fast: pure, told the time by its caller.

The first verifications are spread over the interval by chance, so that a hundred thousand shards that were registered
in one night are not all due in another. What is overdue longest comes first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Annotated, Final, Literal

import msgspec

DAY_S: Final = 86400.0
JITTER: Final = 0.1
"""Part of the interval by which a later verification may come earlier."""
RETRY_S: Final = 3600.0
"""After a run that could not look at the data."""
SLICE_S: Final = 5.0
"""What a slice should take at the bandwidth that is allowed, pause included."""
MIN_SLICE_BYTES: Final = 1 << 20
MAX_SLICE_BYTES: Final = 256 << 20
"""Half a second of an SSD, two of a disk: what a kill costs at most."""
MAX_PAUSE_S: Final = 600.0


class ScrubConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[scrub]`: verifying what shards hold, again and again."""

    interval_days: Annotated[float, msgspec.Meta(ge=0, le=3650)] = (
        30.0  # each shard is verified once in so many days; 0: never
    )
    depth: Literal["structure", "index", "full"] = "full"  # how deep local data is verified
    remote_depth: Literal["structure", "index", "full", "none"] = (
        "index"  # how deep other data is; full fetches all of it
    )
    remote_sample: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = (
        100  # blocks of other data that are looked at; 0: all
    )
    bandwidth: Annotated[int, msgspec.Meta(ge=0)] = (
        50 * 1024 * 1024
    )  # bytes a second while it reads; 0: no limit
    share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5  # part of the time, at most, in which it reads
    repair: bool = True  # whether bad blocks are taken from replicas


def due_at(
    registered_s: float, verified_s: float | None, interval_s: float, chance: Callable[[], float]
) -> float:
    """When a shard is to be verified; `chance` gives a number from 0 up to 1, another each time."""
    if verified_s is None:
        return registered_s + interval_s * chance()
    return verified_s + interval_s * (1 - JITTER * chance())


def slice_bytes(config: ScrubConfig) -> int:
    """How much to read between two pauses, and between two writes of the progress."""
    for_bandwidth = int(config.bandwidth * SLICE_S) or MAX_SLICE_BYTES
    return max(MIN_SLICE_BYTES, min(MAX_SLICE_BYTES, for_bandwidth))


def pause_after(slice_bytes: int, took_s: float, config: ScrubConfig) -> float:
    """How long to leave the disk to others after a slice."""
    for_bandwidth = slice_bytes / config.bandwidth - took_s if config.bandwidth else 0.0
    for_share = took_s * (1 / config.share - 1)
    return min(MAX_PAUSE_S, max(0.0, for_bandwidth, for_share))


class Schedule:
    """Keys by the time at which they are due."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._due)

    def put(self, key: str, at_s: float) -> None:
        """Sets or changes when a key is due."""
        self._due[key] = at_s
        heapq.heappush(self._heap, (at_s, key))

    def remove(self, key: str) -> None:
        self._due.pop(key, None)

    def __contains__(self, key: str) -> bool:
        return key in self._due

    def pop_due(self, now_s: float) -> str | None:
        """The key that is overdue longest, which is then no longer in here; None where none is due."""
        while self._heap and self._heap[0][0] <= now_s:
            at_s, key = heapq.heappop(self._heap)
            if self._due.get(key) == at_s:
                del self._due[key]
                return key
        return None

    def next_at(self) -> float | None:
        """When the next key is due."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def backlog(self, now_s: float) -> int:
        """How many keys are overdue."""
        return sum(at_s <= now_s for at_s in self._due.values())
