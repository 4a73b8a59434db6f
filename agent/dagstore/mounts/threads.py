"""Threads that touch a disk which may never answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar

import trio

from agent.dagstore.failures import ErrorClass, ShardError

T = TypeVar("T")

TIMEOUT_S: Final = 30.0  # a disk that does not answer for so long counts as gone
THREADS: Final = 32  # that touch one at once, those apart that hang


class Threads:
    """Runs short calls that block, in threads.

    A thread that hangs in a dead disk cannot be ended. It is left behind, and until it returns nothing else of the
    same origin is touched, so that there is one such thread an origin and not one a call.
    """

    def __init__(self) -> None:
        self._calls = trio.CapacityLimiter(THREADS)
        # origin: since when, and whether it returned
        self._left: dict[str, tuple[float, threading.Event]] = {}

    async def run(self, origin: str, call: Callable[[], T]) -> T:
        """What `call` returns or raises; ShardError(gone) if it does not in `TIMEOUT_S`.

        A cancel leaves the thread behind: what `call` opens, it must close.
        """
        async with self._calls:
            return await self._bounded(origin, call)

    @property
    def busy(self) -> int:
        """How many calls are under way, those left behind apart."""
        return int(self._calls.borrowed_tokens)

    async def _bounded(self, origin: str, call: Callable[[], T]) -> T:
        self._refuse_if_hanging(origin)
        started, returned = trio.current_time(), threading.Event()

        def run() -> T:
            try:
                return call()
            finally:
                returned.set()

        # A thread that is left behind keeps its place, so not one of ours.
        own = trio.CapacityLimiter(1)
        try:
            with trio.fail_after(TIMEOUT_S):
                return await trio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=own)
        except trio.TooSlowError:
            raise _silent(origin) from None
        finally:
            if not returned.is_set():
                self._left[origin] = (started, returned)

    def _refuse_if_hanging(self, origin: str) -> None:
        since, returned = self._left.get(origin, (0.0, None))
        if returned is None or returned.is_set():
            self._left.pop(origin, None)
        elif trio.current_time() - since >= TIMEOUT_S:
            raise _silent(origin)


def _silent(origin: str) -> ShardError:
    return ShardError(ErrorClass.GONE, f"{origin} did not answer in {TIMEOUT_S:.0f} s", origin_failed=True)
