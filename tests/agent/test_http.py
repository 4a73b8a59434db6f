"""The server: its socket, who is at the other end, and that it stops whatever clients do."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from agent.rpc.binds import BindError, UnixBind
from agent.rpc.http import Connection, serve
from agent.rpc.peers import Peer


async def app(scope: Any, receive: Any, send: Any) -> None:  # ASGI's own loose types
    """Answers with the peer's pid; `/endless` never stops, `/slow` answers when the test says so."""
    if scope["type"] != "http":
        return
    connection: Connection = scope["state"]["connection"]
    assert connection.peer is not None
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    while scope["path"] == "/endless":
        await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
    if scope["path"] == "/crash":
        raise ZeroDivisionError
    await send({"type": "http.response.body", "body": str(connection.peer.pid).encode(), "more_body": False})


@asynccontextmanager
async def serving(path: Path, *, mode: int = 0o600, grace_s: float = 1.0) -> AsyncIterator[trio.Event]:
    """A server for the block, stopped in order at its end."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, grace_s=grace_s), app, [UnixBind(path, mode)], stop)
        yield stop
        stop.set()


async def get(path: Path, target: str) -> bytes:
    stream = await trio.open_unix_socket(path)
    async with stream:
        await stream.send_all(f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        return b"".join([chunk async for chunk in stream])


async def test_an_application_knows_its_peer(tmp_path: Path) -> None:
    async with serving(tmp_path / "s"):
        assert str(os.getpid()).encode() in await get(tmp_path / "s", "/")


async def test_the_socket_has_its_mode_and_is_gone_afterwards(tmp_path: Path) -> None:
    async with serving(tmp_path / "s", mode=0o660):
        found = (tmp_path / "s").stat().st_mode
        assert (stat.S_ISSOCK(found), stat.S_IMODE(found)) == (True, 0o660)
    assert not (tmp_path / "s").exists()


async def test_the_socket_of_a_killed_agent_is_taken_over(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "s"))
    async with serving(tmp_path / "s"):
        assert str(os.getpid()).encode() in await get(tmp_path / "s", "/")


async def test_a_path_that_is_too_long_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 107)
    with pytest.raises(BindError, match=r"has \d+ bytes and the system allows 107: set rpc.socket"):
        await serve(app, [UnixBind(path)], trio.Event())


async def test_a_path_of_the_greatest_length_works(tmp_path: Path) -> None:
    path = tmp_path / ("x" * (107 - len(str(tmp_path)) - 1))
    async with serving(path):
        assert b"200" in await get(path, "/")


@pytest.mark.parametrize("what", ["file", "no directory"])
async def test_a_path_where_no_socket_can_be_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "s" if what == "file" else tmp_path / "none" / "s"
    if what == "file":
        path.write_text("precious")
    with pytest.raises(BindError, match=str(path)):
        await serve(app, [UnixBind(path)], trio.Event())
    assert what != "file" or path.read_text() == "precious"


async def test_a_client_that_does_not_read_cannot_keep_the_server_from_stopping(tmp_path: Path) -> None:
    """anycorn shields its sends from cancellation: alone it would wait here for ever."""
    with trio.fail_after(10):
        async with serving(tmp_path / "s", grace_s=0.1):
            stream = await trio.open_unix_socket(tmp_path / "s")
            await stream.send_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
            await stream.receive_some(1)
    await stream.aclose()


async def test_what_goes_wrong_in_one_connection_ends_that_connection(
    tmp_path: Path, expect_warning: Any
) -> None:
    expect_warning("Error in ASGI Framework")
    async with serving(tmp_path / "s"):
        await get(tmp_path / "s", "/crash")
        stream = await trio.open_unix_socket(tmp_path / "s")
        await stream.send_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        await stream.aclose()
        assert str(os.getpid()).encode() in await get(tmp_path / "s", "/")


def test_aborting_what_has_ended_is_no_error() -> None:
    one, two = socket.socketpair()
    two.close()
    connection = Connection(Peer(1, 2, 3), one)
    connection.abort()
    one.close()
    connection.abort()
    with pytest.raises(OSError) as raised:
        one.getpeername()
    assert raised.value.errno == errno.EBADF
