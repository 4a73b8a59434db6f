"""The limits as they are now: read on a timer, and at once when the kernel says that they may have changed.

    sources ──wake──► the reading task ──read()──► Snapshot ──differs?──► subscribers
       ▲                    ▲    │
       │                  timer  └──facts──► watched()
       └───────── opened anew if the files are others ◄──┘

The timer alone is enough to be right within `interval_s`: it sees what no event tells (that this process was moved to
another group, `/proc/meminfo`, a hidden ancestor). Sources only make it quicker, so each may fail, and none may end the
agent.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial

import trio

from agent.resources.changes import differs
from agent.resources.facts import Snapshot
from agent.resources.watches import SOURCES
from agent.resources.watches.source import CannotWatch, Description, Source
from agent.resources.watches.watched import Watched, watched

logger = logging.getLogger(__name__)

GAP_S = 0.05  # between two readings, however many events come: they come in bursts
GAP_FACTOR = (
    10  # likewise, of what the last one took: a group over its memory.high has every reader wait, us too
)
RETRY_S = 60.0  # a source that could not be opened may be another time: descriptors were short


def next_reading_s(ended_s: float, took_s: float, interval_s: float, *, is_woken: bool) -> float:
    """The time of the reading after one that took `took_s`; if woken, as early as bursts and slow files allow, which
    after a quiet time is at once."""
    gap_s = max(GAP_S, GAP_FACTOR * took_s)
    return ended_s + (min(gap_s, interval_s) if is_woken else interval_s)


@dataclass(frozen=True, slots=True)
class MonitorStatistics:
    """A snapshot for status displays."""

    readings: int
    told: int  # changes that subscribers were told of
    wakes: dict[str, int]  # by source
    last_reading_s: float  # how long it took
    failures: int  # readings that raised, which is a bug


class Monitor:
    """Knows the limits; get one from `open_monitor`. Between two awaits nothing here changes but by `fresh`."""

    def __init__(
        self,
        read: Callable[[], Snapshot],
        *,
        interval_s: float,
        pressure_percent: float,
        sources: Sequence[Source],
    ) -> None:
        self._read = read
        self._interval_s = interval_s
        self._pressure_percent = pressure_percent
        self._wake = trio.Event()
        self._changed = trio.Event()
        self._callbacks: dict[object, Callable[[Snapshot], None]] = {}
        self._wakes = {source.name: 0 for source in sources}
        self._readings = self._told = self._failures = 0
        self._is_failing = False
        self._last_reading_s = 0.0
        self._latest = self._published = (
            self._timed_read()
        )  # what is wrong with the first one, the caller hears
        self._watchers = [_Watcher(source, watched(self._latest), self._wake_up) for source in sources]

    def snapshot(self) -> Snapshot:
        """The latest reading, at most `interval_s` old."""
        return self._latest

    def fresh(self) -> Snapshot:
        """Reads now. If that is news, subscribers hear of it before this returns."""
        try:
            found = self._timed_read()
        except Exception:
            self._failures += 1
            if not self._is_failing:
                logger.exception("limits cannot be read; the last ones are kept, and they may be wrong")
            self._is_failing = True
            return self._latest
        self._is_failing = False
        self._latest = found
        places = watched(found)
        for watcher in self._watchers:
            watcher.aim(places)
        if differs(self._published, found, self._pressure_percent):
            self._publish(found)
        return found

    def subscribe(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        """Has `callback`, which must be short, called with each snapshot that is news; gives what ends that."""
        token = object()
        self._callbacks[token] = callback

        def unsubscribe() -> None:
            self._callbacks.pop(token, None)

        return unsubscribe

    def changes(self) -> Changes:
        """Each snapshot that is news from now on; who is slow gets the newest only."""
        return Changes(self)

    def watched(self) -> tuple[Description, ...]:
        """What makes it read, for `--explain`."""
        timer = Description("timer", True, f"every {self._interval_s:g} s")
        return (timer, *(watcher.description for watcher in self._watchers))

    def statistics(self) -> MonitorStatistics:
        return MonitorStatistics(
            self._readings, self._told, dict(self._wakes), self._last_reading_s, self._failures
        )

    async def run(self) -> None:
        """Reads for ever."""
        async with trio.open_nursery() as nursery:
            for watcher in self._watchers:
                nursery.start_soon(watcher.run)
            while True:
                await self._wait_turn()
                self._wake = trio.Event()
                self.fresh()

    async def _wait_turn(self) -> None:
        next_s = partial(next_reading_s, trio.current_time(), self._last_reading_s, self._interval_s)
        with trio.move_on_at(next_s(is_woken=False)):
            await self._wake.wait()
            await trio.sleep_until(next_s(is_woken=True))

    def _timed_read(self) -> Snapshot:
        begun_s = trio.current_time()
        try:
            return self._read()
        finally:
            self._last_reading_s = trio.current_time() - begun_s
            self._readings += 1

    def _wake_up(self, source: str) -> None:
        self._wakes[source] += 1
        self._wake.set()

    def _publish(self, snapshot: Snapshot) -> None:
        self._published = snapshot
        self._told += 1
        self._changed.set()
        self._changed = trio.Event()
        for callback in list(self._callbacks.values()):
            try:
                callback(snapshot)
            except Exception:  # the others want to hear of it, too
                logger.exception("a subscriber failed to take new limits")

    async def _wait_news(self, seen: Snapshot) -> Snapshot:
        while self._published is seen:
            await self._changed.wait()
        return self._published


class Changes:
    """An async iterator that holds nothing, so it may be left at any time."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._seen = monitor._published

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> Snapshot:
        await trio.lowlevel.checkpoint()
        self._seen = await self._monitor._wait_news(self._seen)
        return self._seen


class _Watcher:
    """Keeps one source open on the right files."""

    def __init__(self, source: Source, places: Watched, wake: Callable[[str], None]) -> None:
        self._source = source
        self._places = places
        self._concern = source.concern(places)
        self._wake = wake
        self._scope = trio.CancelScope()
        self.description = Description(source.name, False, "not begun yet")

    def aim(self, places: Watched) -> None:
        """Has the source opened anew if these are other files for it."""
        concern = self._source.concern(places)
        if concern != self._concern:
            self._places, self._concern = places, concern
            self._scope.cancel()

    async def run(self) -> None:
        """Until cancelled, or until the source shows that it has a bug."""
        while True:
            with self._scope:
                try:
                    await self._watch()
                except (CannotWatch, OSError) as error:
                    self._describe_off(str(error))
                    await trio.sleep(RETRY_S)
                except Exception as error:
                    logger.exception("source %r of changed limits is off from now on", self._source.name)
                    self._describe_off(f"failed: {error!r}")
                    return
            self._scope = trio.CancelScope()

    async def _watch(self) -> None:
        with closing(self._source.open(self._places)) as watch:
            self.description = Description(self._source.name, True, watch.text)
            try:
                self._wake(self._source.name)  # what happened before it was open
                while True:
                    await trio.sleep(GAP_S)  # whatever a watch does, it is not asked without a pause
                    await watch.wait()
                    self._wake(self._source.name)
            except (CannotWatch, OSError):
                self._wake(self._source.name)  # the group is gone: where are we now?
                raise

    def _describe_off(self, why: str) -> None:
        self.description = Description(self._source.name, False, why)


@asynccontextmanager
async def open_monitor(
    read: Callable[[], Snapshot],
    *,
    interval_s: float = 1.0,
    pressure_percent: float = 10.0,
    sources: Sequence[Source] = SOURCES,
) -> AsyncIterator[Monitor]:
    """A monitor for the time of the block. `read` gives the limits of this moment, without waiting and in less than a
    millisecond or so; what it raises the first time is raised here."""
    monitor = Monitor(read, interval_s=interval_s, pressure_percent=pressure_percent, sources=sources)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(monitor.run)
        try:
            yield monitor
        finally:
            nursery.cancel_scope.cancel()
