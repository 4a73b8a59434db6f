"""Waiting for data: threads for what may block, bounded so that `ls` stays fast while slow reads wait.

    requests that may wait ──► lane of the shard ──► threads
      for data:    320             24 each             48        contents of files
      for names:   128              8 each             16        look-ups and listings

A process that waits on our answer cannot even be killed, so every wait has a deadline.  The thread of an overdue
wait cannot be ended: it keeps its place in its lane until storage answers, so dead storage holds at most a lane,
and other shards go on, and its own names too.  A hop to a thread and back costs 90 µs (measured; `trio.to_thread`
115, an executor's future 130), so what is in memory is answered without one (`Content.read_nowait`,
`Folder.lane` None).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import trio

from carlib.limits import MIB
from fusefs.errors import Overdue

T = TypeVar("T")

OVERDUE_S: Final = 1.0
"""So long what was waited for in vain is not waited for again: the kernel asks anew as soon as we have failed, for one
page of a read, or for the next who looks up the same name, and those must not wait a whole deadline more."""


class Job(Generic[T]):
    """A call under way in a thread; several tasks may wait for it, and it may be left alone."""

    __slots__ = ("_error", "_function", "_tasks", "_values", "done")

    def __init__(self, function: Callable[[], T]) -> None:
        self.done = False
        self._function: Callable[[], T] | None = function
        self._values: list[T] = []  # empty until there is a value
        self._error: BaseException | None = None
        self._tasks: list[trio.lowlevel.Task] = []

    def value(self) -> T:
        """What it gave; raises what it raised.  Only when done, any number of times."""
        if self._error is not None:
            raise self._error.with_traceback(None)  # else the traceback would grow with each that asks
        return self._values[0]

    async def wait(self) -> T:
        """Waits until it is done; a cancel leaves it running."""
        if not self.done:
            task = trio.lowlevel.current_task()
            self._tasks.append(task)

            def abort(_: object) -> trio.lowlevel.Abort:
                self._tasks.remove(task)
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        return self.value()

    def run(self) -> None:
        """In the thread."""
        function, self._function = self._function, None
        assert function is not None
        try:
            self._values.append(function())
        except BaseException as error:
            self._error = error

    def finish(self) -> None:
        """In the event loop, after `run`."""
        self.done = True
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            trio.lowlevel.reschedule(task)


class Ahead:
    """How many bytes all handles of a mount hold ahead of their readers."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    @property
    def room(self) -> bool:
        return self.held < self._most


class Pool:
    """Threads for one kind of wait, and how many requests may wait for them and their data."""

    def __init__(self, *, threads: int, per_lane: int, waiting: int) -> None:
        self.threads = trio.CapacityLimiter(threads)
        self.per_lane = per_lane
        self.waiting = 0
        self.most_waiting = waiting

    def lane(self) -> Lane:
        """A share of the threads, for one shard."""
        return Lane(self)


class Lane:
    """One shard's share of a pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._share = trio.CapacityLimiter(pool.per_lane)

    @property
    def busy(self) -> int:
        """Threads that it has now."""
        return self._share.borrowed_tokens

    def enter_nowait(self, place: object) -> None:
        """Takes a thread for `place`; raises trio.WouldBlock."""
        self._share.acquire_on_behalf_of_nowait(place)
        try:
            self.pool.threads.acquire_on_behalf_of_nowait(place)
        except trio.WouldBlock:
            self._share.release_on_behalf_of(place)
            raise

    async def enter(self, place: object) -> None:
        """Takes a thread as soon as there is one; a cancel leaves nothing taken."""
        await self._share.acquire_on_behalf_of(place)
        try:
            await self.pool.threads.acquire_on_behalf_of(place)
        except BaseException:
            self._share.release_on_behalf_of(place)
            raise

    def leave(self, place: object) -> None:
        self.pool.threads.release_on_behalf_of(place)
        self._share.release_on_behalf_of(place)


class Waits:
    """Runs blocking calls for the mount; used from the event loop's thread only."""

    def __init__(
        self,
        *,
        data: Pool | None = None,
        names: Pool | None = None,
        deadline_s: float = 30.0,
        bytes_ahead: int = 32 * MIB,
    ) -> None:
        self.data = data or Pool(threads=48, per_lane=24, waiting=320)
        self.names = names or Pool(threads=16, per_lane=8, waiting=128)
        self.deadline_s = deadline_s
        self.ahead = Ahead(bytes_ahead)

    async def call(self, lane: Lane, function: Callable[[], T]) -> T:
        """What `function` gives, run in a thread; Overdue if that takes too long or too many wait already."""
        return await self.within_deadline(lane, lambda: self._call(lane, function))

    async def within_deadline(self, lane: Lane, wait: Callable[[], Awaitable[T]]) -> T:
        """What `wait()` gives, as one of the requests that may wait."""
        pool = lane.pool
        if pool.waiting >= pool.most_waiting:
            raise Overdue(f"{pool.waiting} requests wait already")
        pool.waiting += 1
        try:
            with trio.fail_after(self.deadline_s):
                return await wait()
        except trio.TooSlowError:
            raise Overdue(f"no data within {self.deadline_s:g} s") from None
        finally:
            pool.waiting -= 1

    def start_nowait(self, lane: Lane, function: Callable[[], T]) -> Job[T] | None:
        """Starts `function` ahead of need; None if no thread is free for it."""
        place = object()
        try:
            lane.enter_nowait(place)
        except trio.WouldBlock:
            return None
        return _launch(lane, place, function)

    async def start(self, lane: Lane, function: Callable[[], T]) -> Job[T]:
        """Starts `function` as soon as a thread is free for it."""
        job = self.start_nowait(lane, function)
        if job is not None:
            return job
        place = object()
        await lane.enter(place)
        return _launch(lane, place, function)

    async def _call(self, lane: Lane, function: Callable[[], T]) -> T:
        return await (await self.start(lane, function)).wait()


def _launch(lane: Lane, place: object, function: Callable[[], T]) -> Job[T]:
    job = Job(function)
    token = trio.lowlevel.current_trio_token()

    def finish() -> None:
        lane.leave(place)
        job.finish()

    def deliver(_: object) -> None:
        try:
            token.run_sync_soon(finish)
        except trio.RunFinishedError:
            pass  # the mount has ended meanwhile: nobody waits

    trio.lowlevel.start_thread_soon(job.run, deliver, "carfs read")
    return job
