"""The RPC of an agent, as a remote worker calls it: HTTP over a Unix socket or TCP, on trio."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
)
from typing import Protocol

import httpcore2
import msgspec
import trio

from agent.workers.messages import LineBuffer
from agent.workers.remote.messages import Hello, Report, ToWorker
from agent.workers.remote.where import Where

logging.getLogger("httpcore2").setLevel(logging.INFO)  # at DEBUG it writes tokens down

CONNECT_S = 10.0
STREAM_SILENCE_S = 25.0  # the agent says something every 10 s
_NDJSON = "application/x-ndjson"
_MAX_ANSWER_BYTES = 1024 * 1024

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ToWorker).decode


class LinkBroken(Exception):
    """Nothing answers, or what answered broke off: later it may work."""


class Refused(Exception):
    """The agent will not have us; `error_class` is that of its answer."""

    def __init__(self, message: str, error_class: str) -> None:
        super().__init__(message)
        self.error_class = error_class


class Link(Protocol):
    """How one agent is reached."""

    def join(self, hello: Hello) -> AbstractAsyncContextManager[AsyncIterator[ToWorker]]:
        """Joins for the time of the block; raises LinkBroken, Refused, in the block too."""

    async def report(self, report: Report, *, timeout_s: float) -> None:
        """Returns when the agent has taken it; raises LinkBroken (it may have, or not), Refused."""


class HttpLink:
    """A `Link` over HTTP; close it when done."""

    def __init__(self, where: Where, token: str) -> None:
        self._where = where
        self._pool = httpcore2.AsyncConnectionPool(
            uds=None if where.socket is None else str(where.socket), max_connections=4, keepalive_expiry=30.0
        )
        self._headers = [("content-type", "application/json")]
        if token:
            self._headers.append(("authorization", f"Bearer {token}"))

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            await self._pool.aclose()

    @asynccontextmanager
    async def join(self, hello: Hello) -> AsyncIterator[AsyncIterator[ToWorker]]:
        async with AsyncExitStack() as stack:
            with self._named():
                posted = self._posted("Carfs.WorkerJoin", hello, STREAM_SILENCE_S, accept=_NDJSON)
                response = await stack.enter_async_context(posted)
                kind = dict(response.headers).get(b"content-type", b"").decode()
                if response.status != 200 or not kind.startswith(_NDJSON):
                    _raise_refusal(response.status, await _body(response))
                    raise LinkBroken(f"{self._where}: it gave no stream")
            yield await stack.enter_async_context(aclosing(self._messages(response)))

    async def report(self, report: Report, *, timeout_s: float) -> None:
        with self._named():
            with trio.move_on_after(timeout_s):
                async with self._posted("Carfs.WorkerReport", report, timeout_s) as response:
                    _raise_refusal(response.status, await _body(response))
                    return
            raise LinkBroken(f"{self._where} did not answer in {timeout_s:g} s")

    async def _messages(self, response: httpcore2.Response) -> AsyncGenerator[ToWorker, None]:
        lines = LineBuffer()
        with self._named():
            async with aclosing(_pieces(response)) as pieces:
                async for piece in pieces:
                    for line in filter(None, lines.feed(piece)):
                        if line.startswith(b'{"error"'):
                            _raise_refusal(200, line)
                        yield _decode(line)
        raise LinkBroken(f"{self._where}: the agent has ended the connection")

    @asynccontextmanager
    async def _posted(
        self, method: str, params: msgspec.Struct, silence_s: float, accept: str = "application/json"
    ) -> AsyncIterator[httpcore2.Response]:
        body = _encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        headers: list[tuple[bytes | str, bytes | str]] = [*self._headers, ("accept", accept)]
        timeouts = {"connect": CONNECT_S, "read": silence_s, "write": silence_s, "pool": CONNECT_S}
        async with self._pool.stream(
            "POST", f"{self._where.url}/rpc/v0", headers=headers, content=body,
            extensions={"timeout": timeouts},
        ) as response:  # fmt: skip
            yield response

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of the connection as LinkBroken."""
        try:
            yield
        except (
            httpcore2.NetworkError,
            httpcore2.TimeoutException,
            httpcore2.ProtocolError,
            OSError,
        ) as error:
            what = str(error) or type(error).__name__
            raise LinkBroken(f"{self._where}: {what}") from error
        except (msgspec.MsgspecError, ValueError) as error:
            raise LinkBroken(f"{self._where}: what it says makes no sense: {error}") from error


async def _body(response: httpcore2.Response) -> bytes:
    body = bytearray()
    async with aclosing(_pieces(response)) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > _MAX_ANSWER_BYTES:
                raise ValueError("a very long answer")
    return bytes(body)


def _pieces(response: httpcore2.Response) -> AsyncGenerator[bytes, None]:
    assert isinstance(response.stream, AsyncIterable)  # the pool is not one for threads
    stream = aiter(response.stream)
    assert isinstance(stream, AsyncGenerator)
    return stream


def _raise_refusal(status: int, body: bytes) -> None:
    """Raises Refused, or ValueError, unless this is a result."""
    if status in (401, 403):
        raise Refused(body[:500].decode(errors="replace"), "denied")
    if status != 200:
        raise ValueError(f"HTTP {status}: {body[:200].decode(errors='replace')}")
    match msgspec.json.decode(body):
        case {"error": {"message": str(message), "data": {"class": str(error_class)}}}:
            raise Refused(message, error_class)
        case {"error": {"message": str(message)}}:
            raise Refused(message, "bug")
        case {"result": _}:
            return
    raise ValueError("no answer of JSON-RPC")
