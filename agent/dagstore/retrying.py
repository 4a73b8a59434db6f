"""The clock of retries: what was scheduled is done when its time has come, a few at a time."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Awaitable, Callable

import trio

from agent.dagstore.failures import Failure
from agent.dagstore.lifecycle import ShardState
from agent.dagstore.retries import NEVER, Retries
from agent.dagstore.shards import Shard

AT_ONCE = 8  # retries; the work that they begin has its own limits


class Retrying:
    """Tries Errored shards again by `attempt(shard, number, of)`, when and as often as `retries` says."""

    def __init__(
        self,
        retries: Retries,
        chance: Callable[[], float],
        attempt: Callable[[Shard, int, int], Awaitable[None]],
    ) -> None:
        self._retries = retries
        self._chance = chance
        self._attempt = attempt
        self._due: list[tuple[float, int, Shard, int]] = []  # a heap
        self._order = itertools.count()
        self._earlier = trio.Event()  # something is due before what we sleep for

    def schedule(self, shard: Shard, number: int, failure: Failure) -> None:
        """Attempt `number` comes after its delay, if there is one. Whoever acquires the shard may have it tried as
        soon as that is over, and when no attempts are left, each time the longest delay is."""
        policy = self._retries.policy(failure.error_class)
        delay_s = policy.delay_s(number, self._chance, failure.after_s)
        now_s = trio.current_time()
        if delay_s is None:
            shard.retry_at_s = math.inf if policy.attempts == NEVER.attempts else now_s + policy.max_s
            return
        shard.retry_at_s = now_s + delay_s
        heapq.heappush(self._due, (shard.retry_at_s, next(self._order), shard, number))
        if self._due[0][2] is shard:
            self._earlier.set()

    def may_try(self, shard: Shard) -> bool:
        """Whether somebody who needs the Errored shard now may have it tried again."""
        failure = shard.life.failure
        if failure is None or self._retries.policy(failure.error_class).attempts == NEVER.attempts:
            return False
        return shard.retry_at_s <= trio.current_time()

    def attempts(self, failure: Failure) -> int:
        """How many there are for this failure."""
        return self._retries.policy(failure.error_class).attempts

    async def run(self) -> None:
        """Does what is due, until cancelled."""
        async with trio.open_nursery() as nursery:
            limiter = trio.CapacityLimiter(AT_ONCE)
            while True:
                shard, number = await self._next()
                failure = shard.life.failure
                if (
                    shard.life.state is not ShardState.ERRORED
                    or shard.life.attempts != number
                    or failure is None
                ):
                    continue  # it was recovered, destroyed, or has failed anew since then
                borrower = object()
                await limiter.acquire_on_behalf_of(borrower)
                nursery.start_soon(self._tried, shard, number, self.attempts(failure), limiter, borrower)

    async def _tried(
        self, shard: Shard, number: int, of: int, limiter: trio.CapacityLimiter, borrower: object
    ) -> None:
        try:
            await self._attempt(shard, number, of)
        finally:
            limiter.release_on_behalf_of(borrower)

    async def _next(self) -> tuple[Shard, int]:
        """Waits for the next one whose time has come."""
        while not self._due or self._due[0][0] > trio.current_time():
            self._earlier = trio.Event()
            with trio.move_on_at(self._due[0][0] if self._due else math.inf):
                await self._earlier.wait()
        _, _, shard, number = heapq.heappop(self._due)
        return shard, number
