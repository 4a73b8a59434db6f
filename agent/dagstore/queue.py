"""Shards that wait for an index: who comes next, and how many are made at once.

A shard that waits costs an entry in a list and no task, since there may be a hundred thousand. Those that somebody
waits for come first. Entries that are no longer wanted are passed over when it is their turn. What has been begun may
wait on in the scheduler, for memory and a CPU: this list is what keeps that one's short.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from agent.dagstore.shards import Shard

UNLIMITED = 0
AHEAD = 256
"""That many are begun where there is no limit: more never run at once, and each costs memory."""


class IndexQueue:
    """Calls `begin(self, shard, generation)` for one shard after another, with at most `limit` (0: no limit of
    ours) that have not `ended`."""

    def __init__(self, limit: int, begin: Callable[[IndexQueue, Shard, int], None]) -> None:
        self._limit = AHEAD if limit == UNLIMITED else limit
        self._begin = begin
        self._urgent: deque[tuple[Shard, int]] = deque()
        self._usual: deque[tuple[Shard, int]] = deque()
        self._running = 0

    def add(self, shard: Shard, generation: int, *, urgent: bool) -> None:
        """The shard wants index number `generation`; it may be begun before this returns."""
        (self._urgent if urgent else self._usual).append((shard, generation))
        self._go_on()

    def hurry(self, shard: Shard) -> None:
        """Somebody waits for this one now."""
        if shard.waits_for_index():
            self._urgent.append((shard, shard.life.generation))

    def ended(self) -> None:
        """One that was begun has ended."""
        self._running -= 1
        self._go_on()

    def waiting(self) -> Iterator[Shard]:
        """Those that have not been begun, in order."""
        seen: set[Shard] = set()
        for shard, generation in (*self._urgent, *self._usual):
            if shard.waits_for_index(generation) and shard not in seen:
                seen.add(shard)
                yield shard

    def _go_on(self) -> None:
        while (self._urgent or self._usual) and self._running < self._limit:
            shard, generation = (self._urgent or self._usual).popleft()
            if shard.waits_for_index(generation):
                self._running += 1
                self._begin(self, shard, generation)
