"""Looking at a shard's data and index before they are used: are they still what was indexed?"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from agent.dagstore import mounts
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.records import IndexFacts

THREADS = 32  # that look at once, unless the caller says otherwise; those apart that hang
TIMEOUT_S = 30.0  # a mount that does not answer for so long counts as gone


class Inspector:
    """Looks, in threads, since a disk or a network may take its time to answer.

    A thread that hangs in a dead mount cannot be ended. It is left behind, and until it returns nothing else in the
    same folder is looked at, so that there is one such thread a folder and not one a look.
    """

    def __init__(self, index_directory: Path, *, at_once: int = THREADS) -> None:
        self._index_directory = index_directory
        self._looks = trio.CapacityLimiter(at_once or math.inf)
        self._left: dict[
            str, tuple[float, threading.Event]
        ] = {}  # folder: since when, and whether it returned

    async def difference(self, url: str, facts: IndexFacts) -> str:
        """What is not as it was when `facts` were noted; empty if all is.

        Raises ShardError if the data cannot be looked at: gone, denied, busy (our fault, not the data's).
        """
        look = partial(_difference, url, facts, self._index_directory / facts.name)
        async with self._looks:
            return await self._bounded(url, look)

    async def _bounded(self, url: str, look: Callable[[], str]) -> str:
        folder = url.rpartition("/")[0]
        self._refuse_if_hanging(folder, url)
        started, returned = trio.current_time(), threading.Event()

        def run() -> str:
            try:
                return look()
            finally:
                returned.set()

        try:
            with trio.fail_after(TIMEOUT_S):
                own = trio.CapacityLimiter(
                    1
                )  # a thread that is left behind keeps its place, so not one of ours
                return await trio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=own)
        except trio.TooSlowError:
            raise _silent(url) from None
        finally:
            if not returned.is_set():
                self._left[folder] = (started, returned)

    def _refuse_if_hanging(self, folder: str, url: str) -> None:
        since, returned = self._left.get(folder, (0.0, None))
        if returned is None or returned.is_set():
            self._left.pop(folder, None)
        elif trio.current_time() - since >= TIMEOUT_S:
            raise _silent(url)


def _silent(url: str) -> ShardError:
    return ShardError(ErrorClass.GONE, f"{url} did not answer in {TIMEOUT_S:.0f} s", origin_failed=True)


def _difference(url: str, facts: IndexFacts, index_path: Path) -> str:
    changed = facts.fingerprint.differs_from(mounts.parse(url).probe())
    if changed:
        return f"the data changed since it was indexed: {changed}"
    try:
        return "" if index_path.stat().st_size == facts.size else "its index file has another size"
    except OSError:
        return "its index file is missing"
