"""What of a transient to fetch next, and who is told when: pure, without clock, await or log.

    ask ──► wanted ──take──► in flight ──arrived──► present ──drop──► (missing)
     hint ──► ahead ──┘          └──failed──► missing again, for whoever asks next

A chunk is in at most one request, however many wait for it, and each waiter is answered once: when the last of its
chunks is there, or when one of them failed, or not at all because it withdrew. A withdrawn waiter takes nothing from
the others; chunks that nobody wants any more are not fetched unless their request is on its way. Where data come whole
or not at all (`MapHead.whole`), the one request is for all of it.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NewType

from agent.dagstore.chunk_map import MapHead, is_set
from agent.dagstore.failures import Failure

Waiter = NewType("Waiter", int)
RequestId = NewType("RequestId", int)

REQUEST_BYTES: Final = 4 << 20
"""The most that one request asks for: a connection that breaks costs little, and others get their turn."""
AHEAD_BYTES: Final = 8 << 20
"""The most that is read ahead of a sequential reader."""
RENEW_AGAIN_S: Final = 60.0
_FIRST_AHEAD: Final = 4
_STREAMS: Final = 16
"""Sequential readers that are told apart."""


@dataclass(frozen=True, slots=True)
class Request:
    """Chunks to fetch in one go: `first` up to, not including, `stop`."""

    id: RequestId
    first: int
    stop: int
    is_ahead: bool  # nobody waits for any of it


@dataclass(frozen=True, slots=True)
class Answer:
    """`waiter` has all it asked for, or will not get it because of `failure`."""

    waiter: Waiter
    failure: Failure | None = None


@dataclass(slots=True)
class _Stream:
    """A reader that goes forward: where it began, and up to where is fetched for it."""

    start: int
    stop: int
    window: int = 0


@dataclass(slots=True)
class _Flight:
    request: Request
    position: int  # chunks before it are there


@dataclass(slots=True)
class Planner:
    """The planner of one transient; `present` is a bit a chunk, and changes with what is told here."""

    head: MapHead
    present: bytearray
    _waiting: dict[Waiter, set[int]] = field(default_factory=dict)  # what each still lacks
    _wanted: dict[int, set[Waiter]] = field(
        default_factory=dict
    )  # missing chunks, in the order they were asked for
    _ahead: dict[int, None] = field(default_factory=dict)
    _in_flight: dict[int, RequestId] = field(default_factory=dict)
    _flights: dict[RequestId, _Flight] = field(default_factory=dict)
    _streams: OrderedDict[int, _Stream] = field(default_factory=OrderedDict)
    _renewed: dict[int, float] = field(default_factory=dict)  # chunk → when
    _completers: list[Waiter] = field(default_factory=list)
    _missing: int = 0
    _cursor: int = 0  # of the completion: chunks before it are there or on their way
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _stream_ids: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self._missing = self.head.chunks - int.from_bytes(self.present, "little").bit_count()

    @property
    def complete(self) -> bool:
        return self._missing == 0

    @property
    def idle(self) -> bool:
        """Whether nobody waits and nothing is on its way."""
        return not (self._waiting or self._flights or self._completers)

    @property
    def has_work(self) -> bool:
        """Whether `take` would give something."""
        return self._next() is not None

    def ask(self, waiter: Waiter, offset: int, length: int) -> bool:
        """`waiter` wants these bytes; True if they are all there, and then nothing more is said to it."""
        first, stop = self.head.range_of(offset, min(length, self.head.size - offset))
        missing = {chunk for chunk in range(first, stop) if not is_set(self.present, chunk)}
        self._read_ahead(first, stop)
        if not missing:
            return True
        self._waiting[waiter] = missing
        for chunk in sorted(missing):
            self._wanted.setdefault(chunk, set()).add(waiter)
        return False

    def finish(self, waiter: Waiter) -> bool:
        """`waiter` wants everything, at leisure: whatever else is asked for goes first. True if it is all there."""
        if self.complete:
            return True
        self._completers.append(waiter)
        self._cursor = 0
        return False

    def withdraw(self, waiter: Waiter) -> None:
        """`waiter` no longer waits; harmless if it was answered."""
        for chunk in self._waiting.pop(waiter, ()):
            self._unwant(chunk, waiter)
        if waiter in self._completers:
            self._completers.remove(waiter)

    def hint(self, ranges: Iterable[tuple[int, int]]) -> None:
        """These bytes will be wanted soon."""
        for offset, length in ranges:
            if 0 <= offset < self.head.size:
                first, stop = self.head.range_of(offset, min(length, self.head.size - offset))
                self._add_ahead(first, stop)

    def take(self) -> Request | None:
        """The next request to make, which must end in `ended` or `failed`; None if there is nothing to do."""
        start = self._next()
        if start is None:
            return None
        is_ahead = not self._wanted if self.head.whole else start not in self._wanted
        most = max(1, REQUEST_BYTES // self.head.chunk_bytes)
        first, stop = (0, self.head.chunks) if self.head.whole else (start, start + 1)
        while first > 0 and stop - first < most and first - 1 in self._wanted and self._is_free(first - 1):
            first -= 1
        while stop < self.head.chunks and stop - first < most and self._may_follow(stop):
            stop += 1
        request = Request(RequestId(next(self._ids)), first, stop, is_ahead)
        self._flights[request.id] = _Flight(request, first)
        for chunk in self.lacking(request):
            self._in_flight[chunk] = request.id
            self._ahead.pop(chunk, None)
        return request

    def lacking(self, request: Request) -> list[int]:
        """The chunks of a request that are not there, in order: all of them but for a request of the whole."""
        return [chunk for chunk in range(request.first, request.stop) if not is_set(self.present, chunk)]

    def arrived(self, request: Request, stop: int) -> list[Answer]:
        """The chunks of `request` up to `stop` are in the data file, and the map says so."""
        flight = self._flights[request.id]
        answers: list[Answer] = []
        for chunk in range(flight.position, stop):
            if self._in_flight.pop(chunk, None) is None:
                continue  # there already: it came with the whole
            self._ahead.pop(chunk, None)
            self.present[chunk >> 3] |= 1 << (chunk & 7)
            self._missing -= 1
            for waiter in sorted(self._wanted.pop(chunk, ())):
                lacks = self._waiting[waiter]
                lacks.discard(chunk)
                if not lacks:
                    del self._waiting[waiter]
                    answers.append(Answer(waiter))
        flight.position = max(flight.position, stop)
        if self.complete:
            answers += [Answer(waiter) for waiter in self._completers]
            self._completers.clear()
        return answers

    def ended(self, request: Request) -> None:
        """Nothing more comes of `request`; what it lacks is fetched again if it is still wanted."""
        flight = self._flights.pop(request.id)
        for chunk in range(flight.position, request.stop):
            self._in_flight.pop(chunk, None)
        self._cursor = min(self._cursor, flight.position)

    def failed(self, request: Request, failure: Failure, *, may_resume: bool = True) -> list[Answer]:
        """`request` broke off. If it got anywhere it is resumed from there, which `may_resume` can forbid; else those
        who wait for the rest of it are told, and the next to ask begins anew."""
        flight = self._flights[request.id]
        progress = flight.position > request.first and not self.head.whole
        self.ended(request)
        if progress and may_resume:
            return []
        told: dict[Waiter, None] = {}
        for chunk in range(flight.position, request.stop):
            told.update(dict.fromkeys(sorted(self._wanted.get(chunk, ()))))
        told.update(dict.fromkeys(self._completers))
        self._ahead.clear()  # nobody waits for it, and it would most likely fail as well
        for waiter in told:
            self.withdraw(waiter)
        return [Answer(waiter, failure) for waiter in told]

    def renew(self, offset: int, length: int, now_s: float) -> list[tuple[int, int]]:
        """What is there of these bytes is wrong: the chunks to drop, as ranges. Each is renewed once in
        `RENEW_AGAIN_S`: what is bad where it comes from is not fetched for each who reads it, and a server or a proxy
        that sent something else for a while has not spoilt our copy for good."""
        first, stop = self.head.range_of(offset, min(length, self.head.size - offset))
        ranges: list[tuple[int, int]] = []
        for chunk in range(first, stop):
            is_due = now_s - self._renewed.get(chunk, -RENEW_AGAIN_S) >= RENEW_AGAIN_S
            if is_set(self.present, chunk) and is_due:
                self._renewed[chunk] = now_s
                self.present[chunk >> 3] &= ~(1 << (chunk & 7)) & 0xFF
                self._missing += 1
                if ranges and ranges[-1][1] == chunk:
                    ranges[-1] = (ranges[-1][0], chunk + 1)
                else:
                    ranges.append((chunk, chunk + 1))
        self._cursor = min(self._cursor, first)
        return ranges

    def _is_free(self, chunk: int) -> bool:
        return chunk not in self._in_flight and not is_set(self.present, chunk)

    def _may_follow(self, chunk: int) -> bool:
        wanted = chunk in self._wanted or chunk in self._ahead or bool(self._completers)
        return wanted and self._is_free(chunk)

    def _next(self) -> int | None:
        """A chunk to fetch: one that somebody waits for, one that will be wanted, or any that lacks."""
        if self.head.whole and self._flights:
            return None
        for chunks in (self._wanted, self._ahead):
            for chunk in chunks:
                if chunk not in self._in_flight:
                    return chunk
        if not self._completers:
            return None
        while self._cursor < self.head.chunks and not self._is_free(self._cursor):
            self._cursor += 1
        return self._cursor if self._cursor < self.head.chunks else None

    def _unwant(self, chunk: int, waiter: Waiter) -> None:
        waiters = self._wanted.get(chunk)
        if waiters is not None:
            waiters.discard(waiter)
            if not waiters:
                del self._wanted[chunk]

    def _read_ahead(self, first: int, stop: int) -> None:
        """Goes on before a reader that goes on itself."""
        for number, stream in self._streams.items():
            if stream.start < first <= stream.stop:
                most = AHEAD_BYTES // self.head.chunk_bytes
                stream.window = min(most, max(_FIRST_AHEAD, 2 * stream.window))
                end = min(max(stream.stop, stop + stream.window), self.head.chunks)
                self._add_ahead(max(stop, stream.stop), end)
                stream.start, stream.stop = first, max(end, stop)
                self._streams.move_to_end(number)
                return
        self._streams[next(self._stream_ids)] = _Stream(first, stop)
        if len(self._streams) > _STREAMS:
            self._streams.popitem(last=False)

    def _add_ahead(self, first: int, stop: int) -> None:
        for chunk in range(first, min(stop, self.head.chunks)):
            if self._is_free(chunk):
                self._ahead[chunk] = None
