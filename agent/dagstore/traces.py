"""What happens to shards, as a stream of whole events: each transition once, in order, with what made it.

Telling it never waits: a reader that does not keep up loses the oldest events, and is told how many. `events.py` has
the stream for those who want to know how things are and not how they came to be so.
"""

from __future__ import annotations

from collections import deque

import msgspec
import trio

from agent.dagstore.records import Transition


class Trace(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """One transition."""

    number: int  # rises by one with each, from 1 at the start of the agent
    at: str  # RFC 3339, UTC
    key: str
    op: str  # name of the event in transitions.py
    before: str  # name of the state
    after: str
    reason: str
    error_class: str  # where `after` is Errored, else ""
    by: str  # who


class TraceReader:
    """One reader's events that it has not read yet; get one from `Traces.subscribe`."""

    def __init__(self, limit: int) -> None:
        self._pending: deque[Trace] = deque(maxlen=limit)
        self._arrived = trio.Event()
        self._closed = False
        self.lost = 0  # events that were dropped, since the beginning

    async def wait_next(self) -> list[Trace]:
        """All events since the last call, oldest first; none once the stream has ended."""
        while not self._pending and not self._closed:
            self._arrived = trio.Event()
            await self._arrived.wait()
        events = list(self._pending)
        self._pending.clear()
        return events

    def _add(self, trace: Trace) -> None:
        self.lost += len(self._pending) == self._pending.maxlen
        self._pending.append(trace)
        self._arrived.set()

    def _close(self) -> None:
        self._closed = True
        self._arrived.set()


class Traces:
    """Hands each transition to all readers, and keeps the last ones for those who come late."""

    def __init__(self, *, buffer: int) -> None:
        self._buffer = buffer
        self._recent: deque[Trace] = deque(maxlen=buffer)
        self._readers: set[TraceReader] = set()
        self._number = 0
        self._closed = False

    def tell(self, key: str, line: Transition, error_class: str) -> None:
        """Tells all readers, at once and without waiting for any of them."""
        self._number += 1
        what = (line.event, line.before, line.after, line.reason, error_class, line.by)
        trace = Trace(self._number, line.at, key, *what)
        self._recent.append(trace)
        for reader in self._readers:
            reader._add(trace)

    def recent(self, *, failures_only: bool = False) -> list[Trace]:
        """The last transitions, oldest first."""
        return [trace for trace in self._recent if trace.error_class or not failures_only]

    def subscribe(self) -> TraceReader:
        """A reader that sees every transition from now on; give it back to `unsubscribe`."""
        reader = TraceReader(self._buffer)
        if self._closed:
            reader._close()
        self._readers.add(reader)
        return reader

    def unsubscribe(self, reader: TraceReader) -> None:
        self._readers.discard(reader)

    def close(self) -> None:
        """Ends all streams, once their readers have read what is there."""
        self._closed = True
        for reader in self._readers:
            reader._close()
