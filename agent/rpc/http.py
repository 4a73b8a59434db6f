"""HTTP for any ASGI application: `serve(app, binds, stop)` on anycorn, the one module that knows which server it is.

anycorn's own `serve` does not tell who is at the other end of a Unix socket, and a client that does not read keeps it
from stopping (its sends are shielded from cancellation). So the sockets are ours here: each connection is handed to
anycorn with a `Connection` in the ASGI scope's state, and is shut down under it when it must end.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anycorn
import trio
from anycorn.tcp_server import TCPServer
from anycorn.typing import ASGIFramework, ConnectionState
from anycorn.utils import wrap_app
from anycorn.worker_context import WorkerContext
from anyio.abc import SocketStream

from agent.rpc.peers import Peer, peer_of

logger = logging.getLogger(__name__)

MAX_SOCKET_PATH_BYTES = 107  # sockaddr_un has room for 108 with the final NUL
BACKLOG = 1024
ABORT_S = 0.5  # for a request to end after its connection was aborted


class BindError(Exception):
    """A socket could not be bound: which, and why."""


@dataclass(frozen=True, slots=True)
class UnixBind:
    """A Unix socket to listen on; a stale one in its place is taken over, so hold a lock when you bind."""

    path: Path
    mode: int = 0o600


@dataclass(frozen=True, slots=True)
class Connection:
    """What an application finds as `scope["state"]["connection"]`."""

    peer: Peer
    socket: socket.socket

    def abort(self) -> None:
        """Ends the connection at once, even in the middle of a send that blocks."""
        with suppress(OSError):  # it has ended already
            self.socket.shutdown(socket.SHUT_RDWR)


async def serve(
    app: ASGIFramework,
    binds: Sequence[UnixBind],
    stop: trio.Event,
    *,
    grace_s: float = 1.0,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until `stop` is set, then lets requests that are being answered end for up to `grace_s`.

    Raises BindError. The sockets' files are gone when this returns.
    """
    listeners = [_listen(bind) for bind in binds]
    try:
        await _serve(app, listeners, stop, grace_s, task_status)
    finally:
        for bind, listener in zip(binds, listeners, strict=True):
            listener.socket.close()
            bind.path.unlink(missing_ok=True)


async def _serve(
    app: ASGIFramework,
    listeners: list[trio.SocketListener],
    stop: trio.Event,
    grace_s: float,
    task_status: trio.TaskStatus[None],
) -> None:
    server = _Server(app)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(
                partial(trio.serve_listeners, server.handle, listeners, handler_nursery=connections)
            )
            task_status.started()
            await stop.wait()
            accepting.cancel_scope.cancel()
        await server.context.terminated.set()
        with trio.move_on_after(grace_s):
            await server.wait_idle()
        server.abort_all()
        connections.cancel_scope.deadline = trio.current_time() + ABORT_S


class _Server:
    """The connections of one `serve`."""

    def __init__(self, app: ASGIFramework) -> None:
        self.context = WorkerContext(None)
        self._config = anycorn.Config()
        self._config.accesslog = None
        self._config.errorlog = logger
        self._config.include_server_header = False
        self._config.keep_alive_timeout = 60.0
        self._app = wrap_app(app, 0, "asgi")
        self._live: set[Connection] = set()
        self._ended = trio.Event()

    async def handle(self, accepted: trio.SocketStream) -> None:
        """Answers one connection; nothing that goes wrong with it may end the agent."""
        raw = socket.socket(fileno=accepted.socket.detach())
        connection = Connection(peer_of(raw), raw)
        self._live.add(connection)
        try:
            stream = await SocketStream.from_socket(raw)
            state: Any = {"connection": connection}  # anycorn's type of it is a closed TypedDict-like alias
            await TCPServer(self._app, self._config, self.context, ConnectionState(state), stream).run()
        except Exception:
            logger.exception("a connection from process %d failed", connection.peer.pid)
        finally:
            self._live.discard(connection)
            raw.close()
            self._ended.set()

    async def wait_idle(self) -> None:
        while self._live:
            self._ended = trio.Event()
            await self._ended.wait()

    def abort_all(self) -> None:
        for connection in self._live:
            connection.abort()


def _listen(bind: UnixBind) -> trio.SocketListener:
    size = len(os.fsencode(bind.path))
    if size > MAX_SOCKET_PATH_BYTES:
        raise BindError(
            f"the socket path {bind.path} has {size} bytes and the system allows {MAX_SOCKET_PATH_BYTES}: "
            "set rpc.socket in config.toml (or CARFS_RPC_SOCKET) to a shorter path"
        )
    try:
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(bind.path.lstat().st_mode):
                raise BindError(f"{bind.path} is there and is not a socket; remove it or choose another path")
            bind.path.unlink()
        return _bound(bind)
    except OSError as error:
        raise BindError(f"cannot listen on {bind.path}: {error.strerror or error}") from error


def _bound(bind: UnixBind) -> trio.SocketListener:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The mode of an unbound socket is the mode of its file. (A umask would do, and would also hold for whatever
        # other threads create at this moment.)
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(os.fsencode(bind.path))
        bind.path.chmod(bind.mode)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(listener))
