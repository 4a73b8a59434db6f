"""Blocks that somebody waits for: they are fetched before all else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import trio

from agent.dagstore.failures import ErrorClass, Failure, ShardError
from carlib.cid import Cid


class Wants:
    """What is waited for of one DAG; whoever fetches it takes from here, and says what has come."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, trio.Event] = {}
        self._failures: dict[bytes, Failure] = {}
        self._queue: list[Cid] = []
        self._arrived = trio.Event()
        self._ended: Failure | None = None

    async def wait_all(self, cids: Sequence[Cid]) -> None:
        """Returns when they are here; raises ShardError if one cannot be had. All are asked for at once."""
        for event, cid in [(self._asked(cid), cid) for cid in cids]:
            await event.wait()
            failure = self._failures.get(cid.raw)
            if failure is not None:
                raise ShardError(failure.error_class, failure.message)

    def _asked(self, cid: Cid) -> trio.Event:
        event = self._waiting.get(cid.raw)
        if event is None:
            if self._ended is not None:
                raise ShardError(self._ended.error_class, self._ended.message)
            self._failures.pop(cid.raw, None)
            event = self._waiting[cid.raw] = trio.Event()
            self._queue.append(cid)
            self._arrived.set()
        return event

    async def next(self) -> Cid:
        """The next one to fetch."""
        while not self._queue:
            self._arrived = trio.Event()
            await self._arrived.wait()
        return self._queue.pop(0)

    def came(self, cids: Iterable[Cid]) -> None:
        for cid in cids:
            self._failures.pop(cid.raw, None)
            if (event := self._waiting.pop(cid.raw, None)) is not None:
                event.set()

    def look(self, is_here: Callable[[Cid], bool]) -> None:
        """Some of what is waited for may have come with the rest."""
        if self._waiting:
            self.came([cid for cid in map(Cid, list(self._waiting)) if is_here(cid)])

    def failed(self, cid: Cid, failure: Failure) -> None:
        """It cannot be had now; who asks again has it asked for again."""
        event = self._waiting.pop(cid.raw, None)
        if event is not None:
            self._failures[cid.raw] = failure
            event.set()

    def end(self, failure: Failure | None = None) -> None:
        """Nobody fetches any more."""
        self._ended = failure or Failure(ErrorClass.CANCELLED, "the retrieval has ended")
        for raw in list(self._waiting):
            self.failed(Cid(raw), self._ended)
        self._queue.clear()

    def begin(self) -> None:
        """Somebody fetches again, and begins with what is waited for still."""
        self._ended = None
        self._queue = [Cid(raw) for raw in self._waiting]
