"""One HTTP request at a time: over the network with bounds on everything, or from a test's own hand.

Built on httpcore2, the engine of httpx2, and not on its client, which would have to be told not to keep cookies, not to
follow redirects, not to ask the environment for proxies and passwords, and not to log URLs; and whose transport does
not let us choose the address to connect to (see `addresses.py`).
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator, Mapping, Set
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final, Protocol

import httpcore2
import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.addresses import GuardedBackend, Resolve, resolve
from agent.dagstore.mounts.config import MountsConfig
from agent.dagstore.mounts.mount import TryLater
from agent.dagstore.mounts.urls import HttpUrl

# At DEBUG it writes down what servers answer, and so where they redirect to, signatures included.
logging.getLogger("httpcore2").setLevel(logging.INFO)

KEEP_ALIVE_S: Final = 20.0  # servers close idle connections after 5 to 75 s, mostly
_HEADERS: Final = {"user-agent": f"carfs/{version('carfs')}", "accept": "*/*", "accept-encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; the body comes as it is read, and what is not read is never sent for."""

    status: int
    headers: Mapping[str, str]  # names in lower case; of several of one name, all, with commas
    body: AsyncIterator[bytes]


class Fetcher(Protocol):
    """Gets what is at a URL."""

    def get(self, url: HttpUrl, headers: Mapping[str, str]) -> AbstractAsyncContextManager[Answer]:
        """The answer to one GET request, whatever it is, redirects included; the end of the block ends the transfer.

        Raises ShardError, from the body too: busy (no answer, cut, stalled), gone (no such host), denied (an address
        that is not allowed, a certificate that cannot be verified).
        """


Body = bytes | AsyncIterable[bytes]
"""Of a request; what comes in pieces is sent once only."""


class Poster(Protocol):
    """Sends what a server is to take."""

    def post(
        self, url: HttpUrl, headers: Mapping[str, str], body: Body, *, patience_s: float
    ) -> AbstractAsyncContextManager[Answer]:
        """The answer to one POST request, as `Fetcher.get`. It has to begin `patience_s` after the last piece of the
        body, and each piece has to be taken within the time in which bodies may not stall."""


class PooledFetcher:
    """A `Fetcher` and `Poster` with a bounded pool of connections; close it when done."""

    def __init__(
        self,
        config: MountsConfig,
        *,
        tls: ssl.SSLContext | None = None,
        trusted: Set[tuple[str, int]] = frozenset(),
        resolve: Resolve = resolve,
    ) -> None:
        """`trusted` are hosts and ports that may be private, whatever the configuration says; it may grow."""
        self._config = config
        self._slots = trio.CapacityLimiter(config.connections or float("inf"))
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=config.connections or None,
            keepalive_expiry=KEEP_ALIVE_S,
            network_backend=GuardedBackend(
                allow_private=config.allow_private, trusted=trusted, resolve=resolve
            ),
        )

    async def aclose(self) -> None:
        await self._pool.aclose()

    @property
    def in_use(self) -> int:
        """Requests that hold a connection, or wait for its answer."""
        return int(self._slots.borrowed_tokens)

    @asynccontextmanager
    async def get(self, url: HttpUrl, headers: Mapping[str, str]) -> AsyncIterator[Answer]:
        async with self._answer("GET", url, headers, b"", self._config.response_timeout_s) as answer:
            yield answer

    @asynccontextmanager
    async def post(
        self, url: HttpUrl, headers: Mapping[str, str], body: Body, *, patience_s: float
    ) -> AsyncIterator[Answer]:
        async with self._answer("POST", url, headers, body, patience_s) as answer:
            yield answer

    @asynccontextmanager
    async def _answer(
        self, method: str, url: HttpUrl, headers: Mapping[str, str], body: Body, patience_s: float
    ) -> AsyncIterator[Answer]:
        async with self._slot(url):
            response = await self._response(method, url, headers, body, patience_s)
            try:
                async with aclosing(self._body(response, url)) as body:
                    yield Answer(response.status, _joined(response.headers), body)
            finally:
                with trio.CancelScope(shield=True):  # closes a socket or gives it back; waits for nobody
                    await response.aclose()

    @asynccontextmanager
    async def _slot(self, url: HttpUrl) -> AsyncIterator[None]:
        """One of the connections that may be; others' transfers may be long, but not for ever."""
        owner = object()
        with trio.move_on_after(self._config.queue_timeout_s) as scope:
            await self._slots.acquire_on_behalf_of(owner)
        if scope.cancelled_caught:
            # Not `TryLater`: it is no fault of the server.
            message = f"{url.shown}: no connection became free in {self._config.queue_timeout_s:g} s"
            hint = f"mounts.connections is {self._config.connections}"
            raise ShardError(ErrorClass.BUSY, f"{message} ({hint})")
        try:
            yield
        finally:
            self._slots.release_on_behalf_of(owner)

    async def _response(
        self, method: str, url: HttpUrl, headers: Mapping[str, str], body: Body, patience_s: float
    ) -> httpcore2.Response:
        # As a whole, since a server may send its headers byte by byte.
        patience_s += self._config.connect_timeout_s
        with _errors_named(url), trio.move_on_after(patience_s) as scope:
            sent = body if isinstance(body, bytes) else self._watched(body, scope, patience_s)
            while True:
                connected: list[str] = []
                try:
                    return await self._pool.handle_async_request(
                        self._request(method, url, headers, sent, connected)
                    )
                except (httpcore2.NetworkError, httpcore2.RemoteProtocolError):
                    # A server may close an idle connection in the moment in which it is used again.
                    if connected or not isinstance(sent, bytes):
                        raise
        assert scope.cancelled_caught
        raise TryLater(f"{url.shown} did not answer in {patience_s:g} s")

    async def _watched(
        self, body: AsyncIterable[bytes], scope: trio.CancelScope, patience_s: float
    ) -> AsyncIterator[bytes]:
        """The pieces of a body; the server's time begins anew whenever it has taken one."""
        async for piece in body:
            scope.deadline = trio.current_time() + self._config.stall_timeout_s
            yield piece
            scope.deadline = float("inf")  # while the next one is made
        scope.deadline = trio.current_time() + patience_s

    def _request(
        self, method: str, url: HttpUrl, headers: Mapping[str, str], body: Body, connected: list[str]
    ) -> httpcore2.Request:
        """`connected` gets an item if a connection is opened for the request."""

        async def trace(event: str, _: object) -> None:
            if event == "connection.connect_tcp.started":
                connected.append(event)

        fields = {"host": url.authority, **_HEADERS, **headers}
        return httpcore2.Request(
            method,
            httpcore2.URL(
                scheme=url.scheme.encode(), host=url.host.encode(), port=url.port, target=url.target.encode()
            ),
            headers=[(name.encode(), value.encode("latin-1")) for name, value in fields.items()],
            content=body or None,
            extensions={"timeout": {"connect": self._config.connect_timeout_s}, "trace": trace},
        )

    async def _body(self, response: httpcore2.Response, url: HttpUrl) -> AsyncGenerator[bytes, None]:
        """The pieces, as long as they come at a reasonable rate; the time that the reader takes does not count."""
        waited_s, received = 0.0, 0
        window_s = self._config.stall_timeout_s
        assert isinstance(response.stream, AsyncIterable)  # the pool is not one for threads
        stream = aiter(response.stream)
        assert isinstance(stream, AsyncGenerator)
        async with aclosing(stream):
            while True:
                before = trio.current_time()
                piece = b""
                with _errors_named(url), trio.move_on_after(window_s) as scope:
                    try:
                        piece = await anext(stream)
                    except StopAsyncIteration:
                        return
                waited_s += trio.current_time() - before
                received += len(piece)
                slow = waited_s >= window_s and received < self._config.min_rate_bytes * waited_s
                if scope.cancelled_caught or slow:
                    raise TryLater(f"{url.shown} stalled: {received} bytes in {waited_s:.0f} s")
                if waited_s >= window_s:
                    waited_s, received = 0.0, 0
                if piece:
                    yield piece


@contextmanager
def _errors_named(url: HttpUrl) -> Iterator[None]:
    """Turns httpcore2's errors into ours."""
    try:
        yield
    except TryLater as error:  # of the address, which does not know for which URL it was asked
        raise TryLater(f"{url.shown}: {error}") from error
    except ShardError as error:
        failed = error.failure.origin_failed
        raise ShardError(error.error_class, f"{url.shown}: {error}", origin_failed=failed) from error
    except httpcore2.TimeoutException as error:
        raise TryLater(f"{url.shown} did not answer in time") from error
    except httpcore2.NetworkError as error:
        refused = _certificate_error(error)
        if refused is not None:
            message = f"{url.shown}: its certificate cannot be verified: {refused.verify_message}"
            raise ShardError(ErrorClass.DENIED, message) from error
        raise TryLater(f"{url.shown} cannot be reached, or broke off: {_reason(error)}") from error
    except httpcore2.ProtocolError as error:
        raise TryLater(f"{url.shown} broke off, or does not speak HTTP: {error}") from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what is below it; the pool raises `from None`, but Python keeps the context."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):  # of the addresses of one name: they mostly agree
            cause = cause.exceptions[0]
        yield cause
        cause = cause.__cause__ or cause.__context__


def _certificate_error(error: BaseException) -> ssl.SSLCertVerificationError | None:
    return next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLCertVerificationError)), None)


def _reason(error: BaseException) -> str:
    """The system's own words, which are below several layers."""
    said = [cause.strerror for cause in _causes(error) if isinstance(cause, OSError) and cause.errno]
    return said[-1] if said and said[-1] else str(error) or type(error).__name__


def _joined(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found
