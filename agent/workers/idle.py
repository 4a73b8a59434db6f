"""The worker processes that have nothing to do: which of them gets the next task, and when they end.

One that is there does a task at once, where a new one takes as long to start as a small task as a whole. So what they
hold counts as free (`held_bytes`), since they end whenever it is needed for something else (`make_room`).
"""

from __future__ import annotations

from collections.abc import Iterator

import trio

from agent.workers.child import Child


class Idle:
    """They end by themselves in the nursery; all have ended after `end`."""

    def __init__(self, nursery: trio.Nursery, timeout_s: float) -> None:
        self._nursery = nursery
        self._timeout_s = timeout_s
        self._since: dict[Child, float] = {}  # by process, the one that has been idle longest first
        self._leaving: set[Child] = set()  # to make room
        self._waiting = trio.lowlevel.ParkingLot()  # until these are gone
        self._reaping = False

    def __len__(self) -> int:
        return len(self._since)

    def pids(self) -> Iterator[int]:
        """Of all that have not ended."""
        return (child.pid for child in (*self._since, *self._leaving))

    def held_bytes(self) -> int:
        """Memory of those that a task could have."""
        return sum(child.used_bytes() for child in self._since)

    def add(self, child: Child) -> None:
        """It has nothing to do from now on."""
        self._since[child] = trio.current_time()
        if not self._reaping:
            self._reaping = True
            self._nursery.start_soon(self._reap)

    async def take(self, memory_limit: int) -> Child | None:
        """The biggest that may go on under this limit; None: there is none, and what held more has ended.

        Nothing is given while others end to make room for it.
        """
        while self._leaving:
            await self._waiting.park()
        by_size = sorted(self._since, key=lambda child: child.used_bytes(), reverse=True)
        for child in by_size:
            if child.lives() and child.limit(memory_limit):
                del self._since[child]
                return child
        if by_size:  # or there would be one more than was reckoned with
            del self._since[by_size[0]]
            await by_size[0].kill()
        return None

    def make_room(self, memory_bytes: int, *, keep: int) -> None:
        """Has the biggest end until so much less is held, but for `keep` of the smallest: so many tasks begin now, and
        what those hold is theirs."""
        by_size = sorted((child.used_bytes(), number, child) for number, child in enumerate(self._since))
        memory_bytes -= sum(used for used, _, _ in by_size[:keep])
        for used, _, child in reversed(by_size[keep:]):
            if memory_bytes <= 0:
                break
            memory_bytes -= used
            del self._since[child]
            self._leaving.add(child)
            self._nursery.start_soon(self._leave, child)

    async def end(self) -> None:
        """Ends all."""
        for child in (*self._since, *self._leaving):
            await child.kill()
        self._since.clear()

    async def _leave(self, child: Child) -> None:
        await child.kill()
        self._leaving.discard(child)
        self._waiting.unpark_all()

    async def _reap(self) -> None:
        """Ends those that nobody has needed for a while; runs only while there are any."""
        while self._since:
            await trio.sleep_until(next(iter(self._since.values())) + self._timeout_s)
            due_s = trio.current_time() - self._timeout_s
            for child in [child for child, since_s in self._since.items() if since_s <= due_s]:
                if self._since.pop(child, None) is not None:  # not taken meanwhile
                    await child.kill()
        self._reaping = False
