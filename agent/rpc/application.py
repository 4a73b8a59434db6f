"""The ASGI application on the agent's socket: `POST /rpc/v0` and `GET /events`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

import msgspec
import trio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agent.dagstore.actors import acting
from agent.dagstore.events import Hub
from agent.dagstore.failures import ShardError
from agent.rpc import jsonrpc
from agent.rpc.http import Connection
from agent.rpc.jsonrpc import Call, ErrorObject
from agent.rpc.methods import Services, answer
from agent.rpc.peers import Permission, permission_of

PING_INTERVAL_S = 10.0
CALLS_AT_ONCE = 16  # of one batch
MAX_BATCH_REPLY_BYTES = 64 * 1024 * 1024  # the calls of a batch that come later are refused
_PIECE_BYTES = 64 * 1024  # of a stream, sent at once
_encode = msgspec.json.Encoder().encode
_TOO_MUCH = ErrorObject(
    jsonrpc.INVALID_REQUEST,
    f"the replies to this batch have more than {MAX_BATCH_REPLY_BYTES} bytes; ask for less at once",
    {"class": "invalid"},
)


def application(services: Services, hub: Hub, *, admin_gid: int | None) -> Starlette:
    """The application for `rpc.http.serve`."""
    return Starlette(
        routes=[
            Route("/rpc/v0", _Rpc(services, admin_gid), methods=["POST"]),
            Route("/events", _Events(services, hub), methods=["GET"]),
        ]
    )


class _Rpc:
    """One JSON-RPC body in, one out; calls whose client has gone are cancelled."""

    def __init__(self, services: Services, admin_gid: int | None) -> None:
        self._services = services
        self._admin_gid = admin_gid

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await _limited_body(Request(scope, receive))
        except ClientDisconnect:
            return
        if body is None:
            message = f"a request body has at most {jsonrpc.MAX_BODY_BYTES} bytes"
            await PlainTextResponse(message, status_code=413)(scope, receive, send)
            return
        connection: Connection = scope["state"]["connection"]
        permission = permission_of(connection.peer, admin_gid=self._admin_gid)
        incoming = jsonrpc.decode(body)
        who = f"rpc: process {connection.peer.pid} uid {connection.peer.uid}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_disconnect, receive, nursery.cancel_scope)
            calls = [item for item in incoming.items if isinstance(item, Call)]
            with acting(who):
                outcomes = await self._outcomes(permission, calls)
            reply = jsonrpc.encode(incoming, outcomes)
            response = (
                Response(status_code=204) if reply is None else Response(reply, media_type="application/json")
            )
            await response(scope, receive, send)
            nursery.cancel_scope.cancel()

    async def _outcomes(self, permission: Permission, calls: list[Call]) -> list[msgspec.Raw | ErrorObject]:
        """What each call gives, encoded; a few run side by side, and each leaves a turn for others than this batch."""
        outcomes: list[msgspec.Raw | ErrorObject] = [_TOO_MUCH] * len(calls)
        remaining = iter(enumerate(calls))
        size = 0

        async def run() -> None:
            nonlocal size
            for number, call in remaining:
                if len(calls) > 1 and size > MAX_BATCH_REPLY_BYTES:
                    return
                outcome = await answer(self._services, permission, call)
                encoded = _encode(outcome)
                outcomes[number] = outcome if isinstance(outcome, ErrorObject) else msgspec.Raw(encoded)
                size += len(encoded)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for _ in range(min(len(calls), CALLS_AT_ONCE)):
                nursery.start_soon(run)
        return outcomes


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


class _Events:
    """A session: a snapshot of all shards, then what changes; its leases end with it."""

    def __init__(self, services: Services, hub: Hub) -> None:
        self._services = services
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection = scope["state"]["connection"]
        session = self._services.leases.open(f"process {connection.peer.pid}")
        subscription = self._hub.subscribe(connection.abort)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on_disconnect, receive, nursery.cancel_scope)
                headers = [(b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-store")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await _send_lines(send, _line({"event": "session", "session": session}))
                for lines in _joined(self._snapshot()):
                    await _send_lines(send, lines)
                await _send_lines(send, _line({"event": "ready"}))
                while True:
                    changed = None
                    with trio.move_on_after(PING_INTERVAL_S):
                        changed = await subscription.wait_changed()
                    if changed == []:
                        break
                    news = [_line({"event": "ping"})] if changed is None else map(self._shard_line, changed)
                    for lines in _joined(news):
                        await _send_lines(send, lines)
                last = _line({"event": "stopping"})
                await send({"type": "http.response.body", "body": last, "more_body": False})
                nursery.cancel_scope.cancel()
        finally:
            self._hub.unsubscribe(subscription)
            self._services.leases.close(session)

    def _snapshot(self) -> Iterator[bytes]:
        """A line for each shard."""
        for key in self._services.dagstore.list_keys():
            with suppress(ShardError):  # destroyed since we began
                yield _line({"event": "shard", "shard": self._services.dagstore.record(key)})

    def _shard_line(self, key: str) -> bytes:
        try:
            return _line({"event": "shard", "shard": self._services.dagstore.record(key)})
        except ShardError:
            return _line({"event": "shard-removed", "key": key})


async def _cancel_on_disconnect(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines in pieces that take little time to make, since others wait for that, and few sends."""
    piece = bytearray()
    for line in lines:
        piece += line
        if len(piece) >= _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


async def _send_lines(send: Send, lines: bytes) -> None:
    await send({"type": "http.response.body", "body": lines, "more_body": True})


def _line(value: object) -> bytes:
    return _encode(value) + b"\n"
