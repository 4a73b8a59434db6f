"""The agent's application in a test's own trio loop, on a Unix socket and over TCP, and clients of it."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio
from trio_websocket import WebSocketConnection, wrap_client_stream

from agent.dagstore.events import Hub
from agent.dagstore.leases import Leases
from agent.rpc.access import Rules
from agent.rpc.application import application
from agent.rpc.binds import Bind, TcpBind, UnixBind
from agent.rpc.http import serve
from agent.rpc.jsonrpc import Call
from agent.rpc.methods import Services, answer
from agent.rpc.peers import Caller, Permission
from agent.rpc.tokens import Tokens
from agent.scheduler.jobs import Scheduling
from tests.agent.imports.worlds import imports_at
from tests.agent.machines import working
from tests.agent.retrievals.worlds import retrievals_at
from tests.agent.stores import LocalWorkers, dagstore_at

ADMIN = Caller(Permission.ADMIN, "a test")


@asynccontextmanager
async def services_at(
    path: Path, *, workers: LocalWorkers | None = None, hub: Hub | None = None
) -> AsyncIterator[Services]:
    """What methods work with, with its state below `path`."""
    hub = hub or Hub(buffer=100)
    async with (
        working(limit=1) as machine,
        dagstore_at(path, workers=workers, hub=hub) as dagstore,
        imports_at(path, machine.scheduler, hub=hub) as importing,
        retrievals_at(path, hub=hub) as retrievals,
    ):
        tokens = Tokens(path / "token-secret")
        yield Services(
            dagstore, Leases(dagstore, importing.imports, retrievals), machine.scheduler, path, "1.2", trio.Event(),
            time.monotonic(), tokens, workers=machine.scheduler, importing=importing, retrievals=retrievals,
        )  # fmt: skip


async def ask(services: Services, method: str, params: Any = None) -> Any:  # Any: JSON
    """The outcome of a call by somebody who may do all."""
    outcome = await answer(services, ADMIN, Call(method, params, 1))
    return msgspec.json.decode(outcome) if isinstance(outcome, msgspec.Raw) else outcome


class Served:
    """An agent's application on the socket `s` in a folder, and on a port of loopback."""

    def __init__(self, services: Services, path: Path, address: Bind) -> None:
        assert isinstance(address, TcpBind)
        self.services = services
        self.path = path
        self.port = address.port

    async def tcp(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def unix(self) -> trio.SocketStream:
        return await trio.open_unix_socket(self.path / "s")

    async def exchange(self, stream: trio.SocketStream, data: bytes) -> bytes:
        """All that comes back for a request that closes its connection."""
        async with stream:
            await stream.send_all(data)
            return b"".join([chunk async for chunk in stream])


@asynccontextmanager
async def served_at(
    path: Path,
    workers: LocalWorkers | None = None,
    rules: Rules | None = None,
    *,
    scheduler: Scheduling | None = None,
) -> AsyncIterator[Served]:
    """Serves for the time of the block; `scheduler` is shown in place of the one that works."""
    hub, stop = Hub(buffer=1000), trio.Event()
    binds: list[Bind] = [UnixBind(path / "s"), TcpBind("127.0.0.1", 0)]
    async with services_at(path, workers=workers, hub=hub) as services, trio.open_nursery() as nursery:
        services = replace(services, scheduler=scheduler or services.scheduler)
        app = application(services, hub, rules)
        _, address = await nursery.start(partial(serve, grace_s=0.1), app, binds, stop)
        yield Served(services, path, address)
        services.stop.set()
        stop.set()


def request(body: Any, *headers: str) -> bytes:  # Any: JSON
    """A POST that closes its connection."""
    data = json.dumps(body).encode()
    lines = ["POST /rpc/v0 HTTP/1.1", "host: localhost", "connection: close", *headers]
    return "\r\n".join([*lines, f"content-length: {len(data)}", "", ""]).encode() + data


def call(method: str, *params: object, number: int = 1) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}


def handshake(*headers: str) -> bytes:
    """A request for a WebSocket, for tests that write their own frames."""
    lines = ["GET /rpc/v0 HTTP/1.1", "host: localhost", "upgrade: websocket", "connection: Upgrade"]
    more = ["sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version: 13", *headers]
    return "\r\n".join([*lines, *more, "", ""]).encode()


class Socket:
    """A client of go-jsonrpc's protocol, as blunt as tests need it."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self.connection = connection
        self._ids = itertools.count(1)

    async def send(self, method: str, *params: object) -> int:
        """Begins a call; its id."""
        number = next(self._ids)
        await self.connection.send_message(json.dumps(call(method, *params, number=number)))
        return number

    async def cancel(self, number: int) -> None:
        await self.connection.send_message(
            json.dumps({"jsonrpc": "2.0", "method": "xrpc.cancel", "params": [number]})
        )

    async def next(self) -> Any:  # Any: JSON
        with trio.fail_after(30):
            return json.loads(await self.connection.get_message())

    async def ask(self, method: str, *params: object) -> Any:  # Any: JSON
        """The result of a call, where nothing else is under way; the error object if it failed."""
        number = await self.send(method, *params)
        reply = await self.next()
        assert reply["id"] == number
        return reply.get("result", reply.get("error"))

    async def values(self, channel: int) -> AsyncIterator[Any]:  # Any: JSON
        """What comes on a channel until it closes, where nothing else is under way."""
        while (notification := await self.next())["method"] == "xrpc.ch.val":
            number, value = notification["params"]
            assert number == channel
            yield value
        assert notification["method"] == "xrpc.ch.close"
        assert notification["params"] == [channel]


@asynccontextmanager
async def socket_over(
    stream: trio.SocketStream, resource: str = "/rpc/v0", *, token: str | None = None
) -> AsyncIterator[Socket]:
    """A WebSocket on a stream that was opened."""
    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    async with stream, trio.open_nursery() as nursery:
        connection = await wrap_client_stream(nursery, stream, "localhost", resource, extra_headers=headers)
        async with connection:
            yield Socket(connection)
        nursery.cancel_scope.cancel()
