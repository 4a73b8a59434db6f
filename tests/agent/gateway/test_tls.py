"""HTTPS, and HTTP/2 over it, as Kubo asks for blocks."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from functools import partial
from pathlib import Path

import httpcore2
import pytest
import trio

from agent.dagstore.failures import ShardError
from agent.gateway.settings import GatewayConfig
from agent.gateway.tls import server_tls
from carlib.cid import Cid
from tests.agent.export.worlds import write_blocks
from tests.agent.gateway.worlds import gateway_at

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="there is no openssl to make a certificate"
)


def make_certificate(folder: Path) -> None:
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    command = ["openssl", "req", *kind, *names, *files]
    subprocess.run(command, check=True, capture_output=True)


def ask(folder: Path, url: str, *, http2: bool) -> tuple[int, bytes, bytes]:
    trusting = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
    with httpcore2.ConnectionPool(ssl_context=trusting, http1=not http2, http2=http2) as pool:
        response = pool.request("GET", url)
        return response.status, response.content, response.extensions["http_version"]


@pytest.mark.parametrize("http2", [False, True])
async def test_blocks_over_https(tmp_path: Path, http2: bool) -> None:
    await trio.to_thread.run_sync(make_certificate, tmp_path)
    data = bytes(range(256)) * 1000
    cid = Cid.of(data)
    async with gateway_at(tmp_path, tls_certificate="certificate.pem", tls_key="key.pem") as served:
        car = write_blocks(tmp_path / "x.car", [cid], [(cid, data)])
        await served.world.dagstore.register("x", str(car), wait=True)
        url = f"https://127.0.0.1:{served.port}/ipfs/{cid}?format=raw"
        found = await trio.to_thread.run_sync(partial(ask, tmp_path, url, http2=http2))
        assert found == (200, data, b"HTTP/2" if http2 else b"HTTP/1.1")


def test_a_certificate_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"tls_certificate.*none\.pem"):
        server_tls(GatewayConfig(tls_certificate="none.pem"), tmp_path)
