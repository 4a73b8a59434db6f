"""Clients that take their time: they get every byte, by whichever way, and cost files instead of memory."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import time
from http.client import HTTPResponse
from pathlib import Path

import pytest
import trio

from agent.gateway import outgoing
from carlib.pack import pack
from tests.agent.certificates import make_certificate
from tests.agent.gateway.worlds import Served, gateway_at

PAUSES = 4  # of more than SLOW_S


def read_slowly(port: int, target: str, tls: ssl.SSLContext | None) -> bytes:
    """The body, taken with pauses in between by a client that has little room."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=30)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    with tls.wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        with HTTPResponse(connection) as response:
            response.begin()
            assert response.status == 200
            found = []
            while piece := response.read(1 << 20):
                found.append(piece)
                if len(found) <= PAUSES:
                    time.sleep(2.5 * outgoing.SLOW_S)
    return b"".join(found)


async def big_root(served: Served, path: Path) -> str:
    (path / "big.bin").write_bytes(os.urandom(12 << 20))
    report = await trio.to_thread.run_sync(pack, path / "big.bin", path / "big.car")
    await served.world.dagstore.register("big", str(path / "big.car"), wait=True)
    return str(report.root)


@pytest.mark.parametrize("encrypted", [False, True], ids=["by the kernel", "through TLS"])
async def test_a_slow_client_gets_what_a_quick_one_gets(
    encrypted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path, "IP:127.0.0.1")
    tls = ssl.create_default_context(cafile=str(certificate)) if encrypted else None
    spilled = []
    write = outgoing.Outgoing._write

    def counted(self: outgoing.Outgoing, data: memoryview) -> object:
        spilled.append(len(data))
        return write(self, data)

    monkeypatch.setattr(outgoing.Outgoing, "_write", counted)
    async with gateway_at(tmp_path, tls_certificate="both.pem" if encrypted else "") as served:
        target = f"/ipfs/{await big_root(served, tmp_path)}?format=car"
        with trio.fail_after(60):
            slowly = await trio.to_thread.run_sync(read_slowly, served.port, target, tls)
        assert len(slowly) > 12 << 20 and len(spilled) >= PAUSES
        if not encrypted:
            assert (await served.ask(target)).body == slowly
        assert not [one for one in tmp_path.iterdir() if one.name.startswith("tmp")]


async def test_without_room_for_files_it_waits_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: outgoing.Outgoing, _data: memoryview) -> object:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(outgoing.Outgoing, "_write", full)
    async with gateway_at(tmp_path) as served:
        target = f"/ipfs/{await big_root(served, tmp_path)}?format=car"
        with trio.fail_after(60):
            slowly = await trio.to_thread.run_sync(read_slowly, served.port, target, None)
        assert (await served.ask(target)).body == slowly
