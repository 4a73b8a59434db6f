"""Where the agent listens: Unix sockets, and TCP addresses if it is told to."""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

MAX_SOCKET_PATH_BYTES = 107  # sockaddr_un has room for 108 with the final NUL
BACKLOG = 1024


class BindError(Exception):
    """A socket could not be bound: which, and why."""


@dataclass(frozen=True, slots=True)
class UnixBind:
    """A Unix socket to listen on; a stale one in its place is taken over, so hold a lock when you bind."""

    path: Path
    mode: int = 0o600
    given: socket.socket | None = field(default=None, compare=False)  # that somebody listens on there for us


@dataclass(frozen=True, slots=True)
class TcpBind:
    """A TCP address to listen on; `host` is a literal address, so that nothing depends on a name service."""

    host: str
    port: int  # 0: any that is free
    given: socket.socket | None = field(default=None, compare=False)  # as above

    @classmethod
    def parse(cls, text: str) -> TcpBind:
        """From `127.0.0.1:3453` or `[::1]:3453`; raises ValueError that says what is wrong."""
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{text!r} is not an address and a port, such as 127.0.0.1:3453 or [::1]:3453")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        try:
            found = ipaddress.ip_address("127.0.0.1" if bare == "localhost" else bare)
        except ValueError:
            raise ValueError(f"{text!r}: {host!r} is not an IP address (an IPv6 one stands in [ ])") from None
        return cls(str(found), int(port))

    @property
    def is_loopback(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Bind = UnixBind | TcpBind


def address_of(listener: trio.socket.SocketType | socket.socket) -> Bind:
    """Where a listener listens, with the port that it got."""
    if listener.family == socket.AF_UNIX:
        return UnixBind(Path(os.fsdecode(listener.getsockname())))
    host, port, *_ = listener.getsockname()
    return TcpBind(host, port)


Given = dict[Bind, socket.socket]
"""Sockets that are listened on already, by where."""


def taken(bind: Bind, given: Given) -> Bind:
    """With the socket that is listened on there already, if there is one; it is taken out."""
    found = given.pop(UnixBind(bind.path) if isinstance(bind, UnixBind) else bind, None)
    return bind if found is None else replace(bind, given=found)


def listen(bind: Bind, stack: ExitStack) -> trio.SocketListener:
    """A listener on `bind`; the stack closes it, and removes its file if it is ours. Raises BindError."""
    if bind.given is not None:
        stack.callback(bind.given.close)
        return trio.SocketListener(trio.socket.from_stdlib_socket(bind.given))
    listener = _listen_unix(bind) if isinstance(bind, UnixBind) else _listen_tcp(bind)
    if isinstance(bind, UnixBind):
        stack.callback(bind.path.unlink, missing_ok=True)
    stack.callback(listener.socket.close)
    return listener


def _listen_tcp(bind: TcpBind) -> trio.SocketListener:
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # nothing but what is configured
        listener.bind((bind.host, bind.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise BindError(
            f"cannot listen on {bind}: {error.strerror or error}; set rpc.listen in config.toml to another address"
        ) from error
    return trio.SocketListener(trio.socket.from_stdlib_socket(listener))


def _listen_unix(bind: UnixBind) -> trio.SocketListener:
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
