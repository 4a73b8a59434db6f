"""HTTPS, and HTTP/2 over it, as Kubo asks for blocks."""

from __future__ import annotations

import ssl
from functools import partial
from pathlib import Path

import httpcore2
import pytest
import trio

from agent.dagstore.failures import ShardError
from agent.gateway.settings import GatewayConfig
from agent.gateway.tls import server_tls
from carlib.cid import Cid
from tests.agent.certificates import make_certificate
from tests.agent.export.worlds import write_blocks
from tests.agent.gateway.worlds import gateway_at


def ask(authority: Path, url: str, *, http2: bool) -> tuple[int, bytes, bytes]:
    trusting = ssl.create_default_context(cafile=str(authority))
    with httpcore2.ConnectionPool(ssl_context=trusting, http1=not http2, http2=http2) as pool:
        response = pool.request("GET", url)
        return response.status, response.content, response.extensions["http_version"]


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize(
    "keys",
    [{"tls_certificate": "both.pem"}, {"tls_certificate": "cert", "tls_key": "key"}],
    ids=["one file", "two"],
)
async def test_blocks_over_https(tmp_path: Path, http2: bool, keys: dict[str, str]) -> None:
    certificate = make_certificate(tmp_path, "IP:127.0.0.1")
    data = bytes(range(256)) * 1000
    cid = Cid.of(data)
    async with gateway_at(tmp_path, pieces=None, **keys) as served:
        car = write_blocks(tmp_path / "x.car", [cid], [(cid, data)])
        await served.world.dagstore.register("x", str(car), wait=True)
        url = f"https://127.0.0.1:{served.port}/ipfs/{cid}?format=raw"
        found = await trio.to_thread.run_sync(partial(ask, certificate, url, http2=http2))
        assert found == (200, data, b"HTTP/2" if http2 else b"HTTP/1.1")


def test_a_certificate_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"tls_certificate.*none\.pem"):
        server_tls(GatewayConfig(tls_certificate="none.pem"), tmp_path)
