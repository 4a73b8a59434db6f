"""One WebSocket connection as go-jsonrpc speaks it, without the socket: frames in, actions out, and vice versa.

A frame that comes in is a JSON-RPC request, a batch of them, or the notification `xrpc.cancel` with the id of a call. A
call that gives a stream is answered with the number of a channel; then its values come as notifications `xrpc.ch.val`
with `[channel, value]`, and at its end `xrpc.ch.close` with `[channel]`, or `[channel, error]` if it broke off, where
go-jsonrpc could not say so. Pure: no await, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from agent.rpc import jsonrpc
from agent.rpc.jsonrpc import Call, ErrorObject, Id, Incoming, Json, Rejected

CANCEL = "xrpc.cancel"
VALUE = "xrpc.ch.val"
CLOSE = "xrpc.ch.close"

MAX_CALLS = 1024  # of one connection, that were not answered yet or whose streams go on
MAX_BYTES = 64 * 1024 * 1024  # of their requests

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Begin:
    """Make this call, and report on it under `number`."""

    number: int
    call: Call
    in_batch: bool = False  # a stream cannot be part of one


@dataclass(frozen=True, slots=True)
class Stop:
    """Cancel the call `number`, and report its end."""

    number: int


@dataclass(frozen=True, slots=True)
class Say:
    """Send this frame."""

    frame: bytes


Action = Begin | Stop | Say


@dataclass(eq=False, slots=True)
class _Batch:
    """Calls that are answered together."""

    incoming: Incoming
    outcomes: list[Json | ErrorObject]
    missing: int


@dataclass(eq=False, slots=True)
class _Running:
    """A call that was begun."""

    call: Call
    size: int  # bytes of its request, or its part of a batch
    batch: _Batch | None = None
    place: int = 0  # in the batch
    channel: int = 0


class Conversation:
    """The state of one connection. Whoever begins a call reports exactly one `answered`, or `opened` and `closed`."""

    def __init__(self, *, max_calls: int = MAX_CALLS, max_bytes: int = MAX_BYTES) -> None:
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._bytes = 0
        self._running: dict[int, _Running] = {}
        self._numbers: dict[Id, int] = {}  # of calls that can be cancelled
        self._last = 0
        self._last_channel = 0

    def receive(self, frame: bytes | str) -> list[Action]:
        """What to do about a frame; whatever is wrong with it is said to its sender, nothing is raised."""
        incoming = jsonrpc.decode(frame)
        if incoming.is_batch:
            return self._receive_batch(incoming, len(frame))
        (item,) = incoming.items
        if isinstance(item, Rejected):
            return [Say(_error(item.error, item.id))]
        if item.method.startswith("xrpc."):
            return self._cancel(item.params) if item.method == CANCEL else []
        refusal = self._refusal(item, 1, len(frame))
        if refusal is not None:
            return [] if item.is_notification else [Say(_error(refusal, item.id))]
        return [self._begin(_Running(item, len(frame)))]

    def answered(self, number: int, outcome: Json | ErrorObject) -> bytes | None:
        """The call has given this; the frame to send, if there is one now."""
        running = self._end(number)
        if running.batch is not None:
            batch = running.batch
            batch.outcomes[running.place] = outcome
            batch.missing -= 1
            return None if batch.missing else jsonrpc.encode(batch.incoming, batch.outcomes)
        return jsonrpc.encode(Incoming((running.call,), is_batch=False), [outcome])

    def opened(self, number: int) -> bytes:
        """The call, which is neither in a batch nor a notification, gives a stream: the frame that says in which
        channel."""
        running = self._running[number]
        self._last_channel += 1
        running.channel = self._last_channel
        return _encode({"jsonrpc": "2.0", "result": running.channel, "id": running.call.id})

    def value(self, number: int, value: Json) -> bytes:
        """The frame with the next value of a stream."""
        return _notification(VALUE, [self._running[number].channel, value])

    def closed(self, number: int, error: ErrorObject | None = None) -> bytes:
        """The stream has ended, or broken off: the frame that says so."""
        running = self._end(number)
        return _notification(CLOSE, [running.channel] if error is None else [running.channel, error])

    def is_open(self, number: int) -> bool:
        """Whether the call has a channel."""
        return self._running[number].channel > 0

    def _receive_batch(self, incoming: Incoming, size: int) -> list[Action]:
        calls = [item for item in incoming.items if isinstance(item, Call)]
        refusals = [self._refusal(call, len(calls), size) for call in calls]
        missing = sum(refusal is None for refusal in refusals)
        batch = _Batch(incoming, list(refusals), missing)
        if not missing:
            reply = jsonrpc.encode(incoming, batch.outcomes)
            return [] if reply is None else [Say(reply)]
        return [
            self._begin(_Running(call, size // len(calls), batch, place))
            for place, (call, refusal) in enumerate(zip(calls, refusals, strict=True))
            if refusal is None
        ]

    def _refusal(self, call: Call, more: int, size: int) -> ErrorObject | None:
        if len(self._running) + more > self._max_calls or self._bytes + size > self._max_bytes:
            bounds = f"{self._max_calls} calls or {self._max_bytes} bytes of requests"
            message = f"more than {bounds} of this connection are under way; wait for some"
            return ErrorObject(jsonrpc.INVALID_REQUEST, message, {"class": "busy"})
        if not call.is_notification and call.id is not None and call.id in self._numbers:
            message = f"the id {call.id!r} is that of a call that has not ended"
            return ErrorObject(jsonrpc.INVALID_REQUEST, message, {"class": "invalid"})
        return None

    def _begin(self, running: _Running) -> Begin:
        self._last += 1
        self._running[self._last] = running
        self._bytes += running.size
        call = running.call
        if not call.is_notification and call.id is not None:
            self._numbers[call.id] = self._last
        return Begin(self._last, call, in_batch=running.batch is not None)

    def _end(self, number: int) -> _Running:
        running = self._running.pop(number)
        self._bytes -= running.size
        if self._numbers.get(running.call.id) == number:
            del self._numbers[running.call.id]
        return running

    def _cancel(self, params: Json) -> list[Action]:
        """Of what has ended already, or never was, nothing is said; that is go-jsonrpc's way."""
        identity = params[0] if isinstance(params, list) and params else None
        if isinstance(identity, bool) or not isinstance(identity, str | int | float):
            return []
        number = self._numbers.get(identity)
        return [] if number is None else [Stop(number)]


def _notification(method: str, params: list[Json]) -> bytes:
    return _encode({"jsonrpc": "2.0", "method": method, "params": params})


def _error(error: ErrorObject, identity: Id) -> bytes:
    return _encode({"jsonrpc": "2.0", "error": error, "id": identity})
