"""One round: units that were planned together, who does which, and who helps whom at the end."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from agent.dagstore.failures import ShardError
from agent.transfer.source import BlockSource
from agent.transfer.units import Unit
from carlib.cid import Cid

EPISODE_S: Final = 0.05
LEAST_TORN: Final = 4096  # bytes of a block that are worth a request for the rest
MOST_TORN: Final = 16  # blocks, of a source


@dataclass(eq=False, slots=True)
class Source:
    """A source, and how it has done."""

    blocks: BlockSource
    failures: int = 0  # on end, without a new block in between
    kept: int = 0  # blocks that came from it
    kept_before: int = 0  # when it last failed
    failed_s: float = -math.inf  # when that was
    not_before_s: float = 0.0
    paused: int = 0  # of its workers
    left: bool = False
    caught: trio.Event = field(default_factory=trio.Event)  # it has lied: nothing more is taken from it
    error: ShardError | None = None
    torn: dict[Cid, bytes] = field(default_factory=dict)  # what it gave of blocks before it broke off

    def tear(self, found: tuple[Cid, bytes] | None) -> None:
        """Keeps what has come of a block, for when its rest is asked for."""
        if found is not None and len(found[1]) >= LEAST_TORN and len(self.torn) < MOST_TORN:
            self.torn[found[0]] = found[1]

    def fail(self, error: ShardError, now_s: float) -> None:
        """Counts a failure; several requests that break off in one moment are one."""
        self.error = error
        if self.kept > self.kept_before:
            self.failures = 0
        elif now_s - self.failed_s < EPISODE_S and self.failures:
            return
        self.failures += 1
        self.kept_before, self.failed_s = self.kept, now_s

    @property
    def lied(self) -> bool:
        return self.caught.is_set()

    @property
    def name(self) -> str:
        return self.blocks.name

    @property
    def host(self) -> str:
        return self.blocks.host

    @property
    def gives_parts(self) -> bool:
        return self.blocks.gives_parts


@dataclass(eq=False, slots=True)
class _Flight:
    """A unit on its way, maybe twice."""

    began_s: float
    by: dict[int, trio.CancelScope | None] = field(default_factory=dict)  # by id of the source


class Round:
    """Ends when every unit is done, or cannot be had."""

    def __init__(self, planned: Iterable[Unit], hedge_s: float, first: Source | None = None) -> None:
        """`first` is asked for every unit before the others are."""
        self._queue = deque(planned)
        self._has_not: dict[Unit, set[int]] = {}
        self._flights: dict[Unit, _Flight] = {}
        self._hedge_s = hedge_s or math.inf
        self._first = first
        self._changed = trio.Event()
        self.dead: dict[Unit, ShardError] = {}

    async def over(self) -> None:
        """Returns when nothing waits, and nothing is on its way."""
        while self._queue or self._flights:
            await self._changed.wait()

    async def take(self, source: Source) -> Unit | None:
        """The next unit for a source; None when there is nothing to do for it any more."""
        while True:
            for unit in self._queue:
                if self._is_for(unit, source):
                    self._queue.remove(unit)
                    self._flights[unit] = _Flight(trio.current_time(), {id(source): None})
                    return unit
            if not self._flights and not self._queue:
                return None
            slow, wait_s = self._to_hedge(source)
            if slow is not None:
                self._flights[slow].by[id(source)] = None
                return slow
            if not self._flights and not any(self._may_have(source, unit) for unit in self._queue):
                return None  # what is left is for others
            with trio.move_on_after(wait_s):
                await self._changed.wait()

    def _may_have(self, source: Source, unit: Unit) -> bool:
        return id(source) not in self._has_not.get(unit, ())

    def _is_for(self, unit: Unit, source: Source) -> bool:
        """Whether the source may be asked now: the others wait for the first, unless it fails or has it not."""
        if not self._may_have(source, unit):
            return False
        first = self._first
        if first is None or source is first or first.left or first.failures:
            return True
        return not self._may_have(first, unit)

    def _to_hedge(self, source: Source) -> tuple[Unit | None, float]:
        """A unit that somebody else is slow with, or how long to wait for one."""
        now_s, wait_s = trio.current_time(), math.inf
        for unit, flight in self._flights.items():
            if id(source) in flight.by or id(source) in self._has_not.get(unit, ()) or len(flight.by) > 1:
                continue
            due_s = flight.began_s + self._hedge_s
            if due_s <= now_s:
                return unit, 0.0
            wait_s = min(wait_s, due_s - now_s)
        return None, wait_s

    def begin(self, unit: Unit, source: Source, scope: trio.CancelScope) -> None:
        flight = self._flights.get(unit)
        if flight is None:  # the other one has just ended
            scope.cancel()
        else:
            flight.by[id(source)] = scope

    def done(self, unit: Unit) -> None:
        """All of it is here; who else is at it stops."""
        flight = self._flights.pop(unit, None)
        if flight is not None:
            for scope in flight.by.values():
                if scope is not None:
                    scope.cancel()
        self._tell()

    def put_back(self, rest: Sequence[Unit], unit: Unit, source: Source) -> None:
        """It broke off; what is left of it is for anybody."""
        if not rest:
            self.done(unit)
            return
        if self._land(unit, source):
            self._queue.extendleft(reversed(rest))
        self._tell()

    def has_not(
        self, rest: Sequence[Unit], unit: Unit, source: Source, error: ShardError, live: Sequence[Source]
    ) -> None:
        """The source has not what is left of it; the others are asked.

        The first one costs nothing, and is asked for all of it but what comes first, where it stopped.
        """
        if not rest:
            self.done(unit)
            return
        known = self._has_not.get(unit, set()) | {id(source)}
        self._has_not[unit] = known
        if self._land(unit, source):
            for one in rest:
                lacks = {id(source)} if source is not self._first or one is rest[0] else set()
                self._has_not[one] = self._has_not.get(one, set()) | lacks | (known if one == unit else set())
                if all(id(other) in self._has_not[one] for other in live):
                    self.dead[one] = error
                else:
                    self._queue.appendleft(one)
        self._tell()

    def _land(self, unit: Unit, source: Source) -> bool:
        """Whether nobody else is at it."""
        flight = self._flights.get(unit)
        if flight is None:
            return False
        flight.by.pop(id(source), None)
        if flight.by:
            return False
        del self._flights[unit]
        return True

    def _tell(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
