"""HTTP for any ASGI application: `serve(app, binds, stop)` on anycorn, the one module that knows which server it is.

anycorn's own `serve` does not tell who is at the other end of a Unix socket, and a client that does not read keeps it
from stopping (its sends are shielded from cancellation). So the sockets are ours here: each connection is handed to
anycorn with a `Connection` in the ASGI scope's state, and is shut down under it when it must end: when the agent stops,
or when its client has taken nothing for `STALL_S` while there was something to take (R-2, D-7).
"""

from __future__ import annotations

import logging
import math
import socket
import ssl
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anycorn
import anyio
import trio
from anycorn.tcp_server import TCPServer
from anycorn.typing import ASGIFramework, ConnectionState
from anycorn.utils import wrap_app
from anycorn.worker_context import WorkerContext
from anyio.abc import SocketStream
from anyio.streams.tls import TLSStream

from agent.rpc.binds import Bind, TcpBind, address_of, listen
from agent.rpc.jsonrpc import MAX_BODY_BYTES
from agent.rpc.peers import Peer, peer_of

logger = logging.getLogger(__name__)

HANDSHAKE_S = 10.0  # for TLS
_NO_TLS = (ssl.SSLError, anyio.EndOfStream, anyio.BrokenResourceError, TimeoutError)
ABORT_S = 0.5  # for a request to end after its connection was aborted
PING_INTERVAL_S = 10.0  # of WebSockets; go-jsonrpc's clients give up after 30 s of silence
STALL_S = 60.0  # a client that takes not one piece in this time is cut
STALL_CHECKED_S = 5.0
MAX_UNREAD_BYTES = (
    2 * MAX_BODY_BYTES
)  # of a message that is refused; anycorn would keep what comes of it for ever
SENT_AT_ONCE = 256 * 1024  # bytes; small enough for the slowest client that we keep to take within STALL_S


@dataclass(eq=False, slots=True)
class Connection:
    """What an application finds as `scope["state"]["connection"]`."""

    peer: Peer | None  # None over TCP, where nobody vouches for one
    socket: socket.socket
    name: str = ""  # of the other end, for people
    waits_since: float = math.inf  # trio's time when the send that is under way began
    unread: int | None = None  # bytes received since the application of a WebSocket set it to 0
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def abort(self) -> None:
        """Ends the connection at once, even in the middle of a send that blocks."""
        with suppress(OSError):  # it has ended already
            self.socket.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Ends what the server still does for the connection, for an application that has said its last word."""
        self._scope.cancel()


async def serve(
    app: ASGIFramework,
    binds: Sequence[Bind],
    stop: trio.Event,
    *,
    grace_s: float = 1.0,
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[tuple[Bind, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until `stop` is set, then lets requests that are being answered end for up to `grace_s`.

    With `tls` it is HTTPS over TCP, and HTTP/2 with whom that is agreed upon.
    It is started with the addresses that it got, in the order of `binds`. Raises BindError. The sockets' files are
    gone when this returns.
    """
    with ExitStack() as stack:
        listeners = [listen(bind, stack) for bind in binds]
        await _serve(app, listeners, tls, stop, grace_s, task_status)


async def _serve(
    app: ASGIFramework,
    listeners: list[trio.SocketListener],
    tls: ssl.SSLContext | None,
    stop: trio.Event,
    grace_s: float,
    task_status: trio.TaskStatus[tuple[Bind, ...]],
) -> None:
    server = _Server(app, tls)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(server.cut_stalled)
            accepting.start_soon(
                partial(trio.serve_listeners, server.handle, listeners, handler_nursery=connections)
            )
            task_status.started(tuple(address_of(listener.socket) for listener in listeners))
            await stop.wait()
            accepting.cancel_scope.cancel()
        await server.context.terminated.set()
        with trio.move_on_after(grace_s):
            await server.wait_idle()
        server.abort_all()
        connections.cancel_scope.deadline = trio.current_time() + ABORT_S


class _Server:
    """The connections of one `serve`."""

    def __init__(self, app: ASGIFramework, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self.context = WorkerContext(None)
        self._config = anycorn.Config()
        self._config.accesslog = None
        self._config.errorlog = logger
        self._config.include_server_header = False
        self._config.keep_alive_timeout = 60.0
        self._config.websocket_max_message_size = MAX_BODY_BYTES
        self._config.websocket_ping_interval = PING_INTERVAL_S
        # Deflating a long listing would hold up everybody else's calls, to spare a loopback some bytes.
        self._config.websocket_permessage_deflate = False
        self._app = wrap_app(app, 0, "asgi")
        self._live: set[Connection] = set()
        self._ended = trio.Event()

    async def handle(self, accepted: trio.SocketStream) -> None:
        """Answers one connection; nothing that goes wrong with it may end the agent."""
        raw = socket.socket(fileno=accepted.socket.detach())
        try:
            connection = _connection(raw)
        except OSError:  # it has ended already
            raw.close()
            return
        self._live.add(connection)
        try:
            with connection._scope:
                stream: Any = _Watched(
                    await SocketStream.from_socket(raw), connection
                )  # a stream by behaviour
                state: Any = {"connection": connection}  # anycorn's type of it is a closed alias
                if self._tls is not None and raw.family != socket.AF_UNIX:
                    try:
                        stream = await _encrypted(stream, self._tls)
                    except _NO_TLS as error:
                        logger.info("%s: no TLS: %s", connection.name, error)
                        return
                await TCPServer(self._app, self._config, self.context, ConnectionState(state), stream).run()
        except Exception:
            logger.exception("a connection from %s failed", connection.name)
        finally:
            self._live.discard(connection)
            raw.close()
            self._ended.set()

    async def cut_stalled(self) -> None:
        """Cuts, for as long as we serve, connections whose client does not take what it asked for."""
        while True:
            await trio.sleep(STALL_CHECKED_S)
            for connection in [one for one in self._live if trio.current_time() > one.waits_since + STALL_S]:
                logger.info("%s has taken nothing for %d s: cut", connection.name, STALL_S)
                connection.abort()

    async def wait_idle(self) -> None:
        while self._live:
            self._ended = trio.Event()
            await self._ended.wait()

    def abort_all(self) -> None:
        for connection in self._live:
            connection.abort()


class _Watched:
    """An anyio stream that sends in pieces and notes on the connection since when one waits to be taken."""

    def __init__(self, stream: SocketStream, connection: Connection) -> None:
        self._stream = stream
        self._connection = connection

    async def send(self, data: bytes) -> None:
        try:
            for begin in range(0, len(data), SENT_AT_ONCE):
                self._connection.waits_since = trio.current_time()
                await self._stream.send(data[begin : begin + SENT_AT_ONCE])
        finally:
            self._connection.waits_since = math.inf

    async def receive(self, max_bytes: int = 65536) -> bytes:
        data = await self._stream.receive(max_bytes)
        if self._connection.unread is not None:
            self._connection.unread += len(data)
            if self._connection.unread > MAX_UNREAD_BYTES:
                self._connection.abort()
        return data

    def __getattr__(self, name: str) -> Any:  # the rest is the stream's own
        return getattr(self._stream, name)


async def _encrypted(stream: Any, context: ssl.SSLContext) -> Any:  # Any: streams by behaviour
    with anyio.fail_after(HANDSHAKE_S):
        return await TLSStream.wrap(stream, server_side=True, ssl_context=context, standard_compatible=False)


def _connection(raw: socket.socket) -> Connection:
    if raw.family == socket.AF_UNIX:
        peer = peer_of(raw)
        return Connection(peer, raw, f"process {peer.pid}")
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Where the far end has vanished, pings stay without acknowledgement; the system then ends the connection.
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL_S * 1000))
    host, port, *_ = raw.getpeername()
    return Connection(None, raw, str(TcpBind(host, port)))
