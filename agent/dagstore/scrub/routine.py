"""The routine: verifies each shard when it is due."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing

import trio

from agent.dagstore import mounts
from agent.dagstore.events import Hub
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.scrub import schedule
from agent.dagstore.scrub.job import SCHEDULED
from agent.dagstore.scrub.records import Depth, Outcome, ScrubEvent, ScrubState, time_s
from agent.dagstore.scrub.schedule import Schedule, ScrubConfig
from agent.dagstore.scrub.store import ScrubStore, Shards

logger = logging.getLogger(__name__)

PAGE = 256
"""Shards that are read from the catalogue between two looks at what else there is to do."""
_NO_VERDICT = (Outcome.CHANGED, Outcome.REBUILT, Outcome.BROKEN)

Verify = Callable[[str, Depth, int], AsyncGenerator[ScrubEvent, None]]
"""Begins to verify a shard to a depth, by a sample of so many entries (0: all), and watches that."""


class Routine:
    """Follows the schedule; `running` are the keys of shards that are being verified."""

    def __init__(
        self,
        *,
        shards: Shards,
        store: ScrubStore,
        hub: Hub,
        config: ScrubConfig,
        clock: Callable[[], float],
        chance: Callable[[], float],
        verify: Verify,
        running: Collection[str],
    ) -> None:
        self._shards = shards
        self._store = store
        self._hub = hub
        self._config = config
        self._clock = clock
        self._chance = chance
        self._verify = verify
        self._running = running
        self._schedule = Schedule()
        self._wake = trio.Event()

    def statistics(self) -> tuple[int, int, float | None]:
        """How many shards are in the schedule, how many of them are overdue, and when the next one is due."""
        return len(self._schedule), self._schedule.backlog(self._clock()), self._schedule.next_at()

    async def run(self) -> None:
        """Verifies what is due, for ever; returns at once where nothing is ever due."""
        if not self._config.interval_days:
            return
        async with trio.open_nursery() as nursery:
            await nursery.start(self._follow)
            while True:
                await self._wait_due()
                key = self._schedule.pop_due(self._clock())
                if key is not None and key not in self._running:
                    try:
                        await self._verify_due(key)
                    except ShardError as error:  # of the catalogue
                        logger.warning("shard %s could not be verified: %s", key, error)
                        self._put_at(key, self._clock() + schedule.RETRY_S)

    async def _follow(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Takes in what is registered, now and later, and drops what is destroyed."""
        is_cut = True
        while is_cut:  # and not closed, with which the agent ends
            is_cut = False

            def cut() -> None:
                nonlocal is_cut
                is_cut = True

            subscription = self._hub.subscribe(cut)
            try:
                await self._take_in_all()
            except ShardError as error:
                logger.warning("not all shards are in the schedule of verifications: %s", error)
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            while keys := await subscription.wait_changed():
                for key in keys:
                    self._take_in(key)

    async def _take_in_all(self) -> None:
        after = ""
        while page := self._store.scrub_page(after, PAGE):
            for key, url, registered, state in page:
                if key not in self._schedule and key not in self._running:
                    self._put(key, url, registered, state)
            after = page[-1][0]
            await trio.lowlevel.checkpoint()

    def _take_in(self, key: str) -> None:
        """A shard that was changed, as news has it."""
        try:
            row = self._shards.row(key)
            if key not in self._schedule and key not in self._running:
                self._put(key, row.url, row.registered, self._store.scrub(key))
        except ShardError as error:
            if error.error_class is ErrorClass.NOT_FOUND:
                self._schedule.remove(key)
            else:
                logger.warning("shard %s is not in the schedule of verifications: %s", key, error)

    def _put(self, key: str, url: str, registered: str, state: ScrubState) -> None:
        depth = self._depth_of(url)
        if depth is None:
            return
        interval_s = self._config.interval_days * schedule.DAY_S
        if state.run is not None and state.run.by == SCHEDULED:
            at_s = self._clock()  # it was cut short
        else:
            last = state.verified.get(depth.value)
            verified_s = None if last is None else time_s(last)
            at_s = schedule.due_at(time_s(registered), verified_s, interval_s, self._chance)
        self._put_at(key, at_s)

    def _put_at(self, key: str, at_s: float) -> None:
        self._schedule.put(key, at_s)
        self._wake.set()
        self._wake = trio.Event()

    async def _wait_due(self) -> None:
        at_s, wake = self._schedule.next_at(), self._wake
        wait_s = float("inf") if at_s is None else max(0.0, at_s - self._clock())
        with trio.move_on_after(wait_s):
            await wake.wait()

    async def _verify_due(self, key: str) -> None:
        try:
            row = self._shards.row(key)
        except ShardError as error:
            if error.error_class is ErrorClass.NOT_FOUND:
                return  # it was destroyed
            raise
        depth = self._depth_of(row.url)
        if depth is None:
            return
        sample = 0 if _is_local(row.url) else self._config.remote_sample
        async with aclosing(self._verify(key, depth, sample)) as events:
            last = [event async for event in events][-1]
        if last.verdict is None or last.verdict.outcome in _NO_VERDICT:
            self._put_at(key, self._clock() + schedule.RETRY_S)
        else:
            self._take_in(key)

    def _depth_of(self, url: str) -> Depth | None:
        """How deep the schedule verifies a shard; None: not at all."""
        chosen = self._config.depth if _is_local(url) else self._config.remote_depth
        return None if chosen == "none" else Depth(chosen)


def _is_local(url: str) -> bool:
    try:
        return mounts.parse(url).path is not None
    except ShardError:
        return False
