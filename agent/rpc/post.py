"""`POST /rpc/v0`: a JSON-RPC body in, one out; or the values of a stream, a line each, for who accepts NDJSON."""

from __future__ import annotations

import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from agent.rpc import jsonrpc
from agent.rpc.jsonrpc import Call, ErrorObject, Incoming, Json
from agent.rpc.lines import MEDIA_TYPE, begin, cancel_on_disconnect, line, send_lines
from agent.rpc.peers import Caller
from agent.rpc.registry import Stream, answer, encoded, error_of
from agent.rpc.services import Services

CALLS_AT_ONCE = 16  # of one batch
MAX_BATCH_REPLY_BYTES = 64 * 1024 * 1024  # the calls of a batch that come later are refused
PING_INTERVAL_S = 10.0  # an empty line, where a stream has nothing to say
_TOO_MUCH = ErrorObject(
    jsonrpc.INVALID_REQUEST,
    f"the replies to this batch have more than {MAX_BATCH_REPLY_BYTES} bytes; ask for less at once",
    {"class": "invalid"},
)


class PostRpc:
    """The ASGI endpoint; calls whose client has gone are cancelled."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            body = await _limited_body(request)
        except ClientDisconnect:
            return
        if body is None:
            message = f"a request body has at most {jsonrpc.MAX_BODY_BYTES} bytes"
            await PlainTextResponse(message, status_code=413)(scope, receive, send)
            return
        caller: Caller = scope["state"]["caller"]
        incoming = jsonrpc.decode(body)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_on_disconnect, receive, nursery.cancel_scope)
            if MEDIA_TYPE in request.headers.get("accept", "") and not incoming.is_batch:
                await self._streamed(caller, incoming, scope, receive, send)
            else:
                calls = [item for item in incoming.items if isinstance(item, Call)]
                await _reply(incoming, await self._outcomes(caller, calls), scope, receive, send)
            nursery.cancel_scope.cancel()

    async def _streamed(
        self, caller: Caller, incoming: Incoming, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Sends the values of the one call, a line each; the reply of a method that gives no stream as ever."""
        (item,) = incoming.items
        outcome = await answer(self._services, caller, item) if isinstance(item, Call) else None
        if not isinstance(outcome, Stream):
            outcomes = [encoded(item.method, outcome)] if isinstance(item, Call) else []
            await _reply(incoming, list[Json | ErrorObject](outcomes), scope, receive, send)
            return
        await begin(send)
        send_lock = trio.Lock()
        last = b""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_ping, send, send_lock)
                async with outcome.values as values:
                    async for value in values:
                        async with send_lock:
                            await send_lines(send, line(value))
                nursery.cancel_scope.cancel()
        except Exception as error:
            last = line({"error": error_of(outcome.method, error)})
        await send_lines(send, last, last=True)

    async def _outcomes(self, caller: Caller, calls: list[Call]) -> list[Json | ErrorObject]:
        """What each call gives, encoded; a few run side by side, and each leaves a turn for others than this batch."""
        outcomes: list[Json | ErrorObject] = [_TOO_MUCH] * len(calls)
        remaining = iter(enumerate(calls))
        size = 0

        async def run() -> None:
            nonlocal size
            for number, call in remaining:
                if len(calls) > 1 and size > MAX_BATCH_REPLY_BYTES:
                    return
                outcome = await answer(self._services, caller, call)
                if isinstance(outcome, Stream):
                    outcome = _no_channels(call.method)
                outcomes[number] = reply = encoded(call.method, outcome)
                size += 0 if isinstance(reply, ErrorObject) else memoryview(reply).nbytes
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for _ in range(min(len(calls), CALLS_AT_ONCE)):
                nursery.start_soon(run)
        return outcomes


async def _reply(
    incoming: Incoming, outcomes: list[Json | ErrorObject], scope: Scope, receive: Receive, send: Send
) -> None:
    reply = jsonrpc.encode(incoming, outcomes)
    response = Response(status_code=204) if reply is None else Response(reply, media_type="application/json")
    await response(scope, receive, send)


async def _ping(send: Send, lock: trio.Lock) -> None:
    """Shows that we are there while a stream has nothing to say."""
    while True:
        await trio.sleep(PING_INTERVAL_S)
        async with lock:
            await send_lines(send, b"\n")


def _no_channels(method: str) -> ErrorObject:
    words = f"method '{method}' not supported in this mode (no out channel support)"  # go-jsonrpc's
    hint = f"use a WebSocket, or accept {MEDIA_TYPE}"
    return ErrorObject(jsonrpc.METHOD_NOT_FOUND, f"{words}; {hint}", {"class": "invalid"})


async def _limited_body(request: Request) -> bytes | None:
    """The body, None if it is too long; raises ClientDisconnect."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > jsonrpc.MAX_BODY_BYTES:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > jsonrpc.MAX_BODY_BYTES:
            return None
    return bytes(body)
