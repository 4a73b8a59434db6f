"""Looking at a shard's data and index before they are used: are they still what was indexed?"""

from __future__ import annotations

from pathlib import Path

import trio

from agent.dagstore import mounts
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.records import IndexFacts

TIMEOUT_S = 30.0  # a mount that does not answer for so long counts as gone
THREADS = 32  # of their own, so that dead mounts hold up nothing but other looks


class Inspector:
    """Looks, in threads, since a disk or a network may take its time to answer."""

    def __init__(self, index_directory: Path) -> None:
        self._index_directory = index_directory
        self._threads = trio.CapacityLimiter(THREADS)

    async def difference(self, url: str, facts: IndexFacts) -> str:
        """What is not as it was when `facts` were noted; empty if all is.

        Raises ShardError if the data cannot be looked at: gone, denied, busy (our fault, not the data's).
        """
        index_path = self._index_directory / facts.name
        try:
            with trio.fail_after(TIMEOUT_S):
                return await trio.to_thread.run_sync(
                    _difference, url, facts, index_path, abandon_on_cancel=True, limiter=self._threads
                )
        except trio.TooSlowError:
            raise ShardError(ErrorClass.GONE, f"{url} did not answer in {TIMEOUT_S:.0f} s") from None


def _difference(url: str, facts: IndexFacts, index_path: Path) -> str:
    changed = facts.fingerprint.differs_from(mounts.parse(url).probe())
    if changed:
        return f"the data changed since it was indexed: {changed}"
    try:
        return "" if index_path.stat().st_size == facts.size else "its index file has another size"
    except OSError:
        return "its index file is missing"
