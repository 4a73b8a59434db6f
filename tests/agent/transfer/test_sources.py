"""Sources over real HTTP: CARs at a URL, and gateways that a router names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.urls import HttpUrl
from agent.retrievals.records import Wanted
from agent.retrievals.settings import RetrievalConfig
from agent.rpc.binds import TcpBind
from agent.rpc.http import serve
from agent.transfer.sources.means import open_means
from agent.transfer.sources.naming import source_of
from agent.transfer.sources.piece import PieceSource
from agent.transfer.sources.routing import providers, url_of
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from tests.agent.gateway.test_gateway import cids_of, make_tree, serve_tree
from tests.agent.gateway.worlds import gateway_at
from tests.agent.retrievals.worlds import retrievals_at
from tests.conftest import ExpectWarning

ANY = Cid.of(b"any")
TAG = '"one"'


@asynccontextmanager
async def web(*routes: Route) -> AsyncIterator[str]:
    """A server with these routes; its URL."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        binds = [TcpBind("127.0.0.1", 0)]
        (address,) = await nursery.start(
            partial(serve, grace_s=0.1), Starlette(routes=[*routes]), binds, stop
        )
        yield f"http://{address}"
        stop.set()


class Ranged:
    """A CAR with ranges, as an ASGI application that breaks off in the middle as often as it is told."""

    def __init__(self, data: bytes, *, cuts: int = 0) -> None:
        self.data = data
        self.cuts = cuts
        self.asked: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        asked, start = headers.get("range", ""), 0
        self.asked.append(asked)
        if asked and headers.get("if-range") == TAG:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
        rest = self.data[start:]
        given = {"etag": TAG, "content-length": str(len(rest))}
        if start:
            given["content-range"] = f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"
        encoded = [(name.encode(), value.encode()) for name, value in given.items()]
        await send({"type": "http.response.start", "status": 206 if start else 200, "headers": encoded})
        if not self.cuts:
            await send({"type": "http.response.body", "body": rest, "more_body": False})
            return
        self.cuts -= 1
        await send({"type": "http.response.body", "body": rest[: len(rest) // 2], "more_body": True})
        scope["state"]["connection"].abort()


async def test_a_car_at_a_url_is_brought_by_ranges_where_it_breaks_off(tmp_path: Path) -> None:
    car, root = make_tree(tmp_path)
    ranged = Ranged(car.read_bytes(), cuts=2)
    async with (
        web(Route("/piece/x", ranged)) as url,
        retrievals_at(tmp_path, config=RetrievalConfig()) as retrievals,
    ):
        with trio.fail_after(60):
            number = retrievals.start(Wanted(str(root)), [f"{url}/piece/x"])
            record = await retrievals.wait(number)
        assert set(cids_of(Path(record.car_path))) == set(cids_of(car))
        half = len(ranged.data) // 2
        assert ranged.asked == ["", f"bytes={half}-", f"bytes={half + (len(ranged.data) - half) // 2}-"]
        assert list(retrievals.directory.glob("*.part")) == []


async def test_a_car_that_is_another_one_meanwhile_is_brought_anew(tmp_path: Path) -> None:
    car, root = make_tree(tmp_path)
    ranged = Ranged(car.read_bytes())
    async with web(Route("/a.car", ranged)) as url, open_means(RetrievalConfig()) as means:
        part = tmp_path / "1.0.part"
        part.write_bytes(b"of another one")
        source = source_of(f"{url}/a.car", means, part)
        assert isinstance(source, PieceSource)
        data = await source.raw(root)
        with ReadOnlyBlockstore.open(car) as store:
            assert data == store.get(root)
        with pytest.raises(ShardError) as caught:
            await source.raw(ANY)
        assert caught.value.error_class is ErrorClass.NOT_FOUND
        source.discard()
        assert not part.exists()


async def test_gateways_that_a_router_names_are_asked(tmp_path: Path) -> None:
    async with gateway_at(tmp_path / "far") as served:
        car, root = await serve_tree(served, tmp_path / "far")

        async def named(request: Request) -> Response:
            assert request.path_params["cid"] == str(root)
            assert request.query_params["filter-protocols"] == "transport-ipfs-gateway-http"
            addresses = [f"/ip4/127.0.0.1/tcp/{served.port}/http", "/ip4/127.0.0.1/udp/1/quic-v1"]
            record = {"Schema": "peer", "Protocols": ["transport-ipfs-gateway-http"], "Addrs": addresses}
            other = {"Schema": "peer", "Protocols": ["transport-bitswap"], "Addrs": ["/dns4/x/tcp/443/https"]}
            return JSONResponse({"Providers": [other, record, "nonsense"]})

        async with web(Route("/routing/v1/providers/{cid}", named)) as router:
            config = RetrievalConfig(routers=(router,), allow_private=True)
            async with retrievals_at(tmp_path, config=config) as retrievals:
                with trio.fail_after(60):
                    record = await retrievals.wait(retrievals.start(Wanted(str(root))))
                assert record.blocks == len(cids_of(car))
                assert record.source == served.url


@pytest.mark.parametrize(
    ("answer", "error_class"),
    [
        (PlainTextResponse("none", 404), None),
        (JSONResponse({"Providers": None}), None),
        (PlainTextResponse("no JSON"), ErrorClass.INVALID),
        (PlainTextResponse("later", 503), ErrorClass.BUSY),
        (PlainTextResponse("x" * 2_000_000), ErrorClass.INVALID),
    ],
)
async def test_what_routers_may_answer(answer: Response, error_class: ErrorClass | None) -> None:
    async def answered(_request: Request) -> Response:
        return answer

    async with (
        web(Route("/routing/v1/providers/{cid}", answered)) as url,
        open_means(RetrievalConfig()) as means,
    ):
        router = HttpUrl.parse(url)
        means.trust(router)
        if error_class is None:
            assert await providers(router, ANY, means) == []
            return
        with pytest.raises(ShardError) as caught:
            await providers(router, ANY, means)
        assert caught.value.error_class is error_class


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("/dns4/a.example/tcp/443/https", "https://a.example/"),
        ("/dns/a.example/tcp/8443/tls/http", "https://a.example:8443/"),
        ("/ip6/2001:db8::1/tcp/80/http", "http://[2001:db8::1]/"),
        ("/ip4/1.2.3.4/tcp/x/http", None),
        ("/ip4/1.2.3.4/udp/1/quic-v1", None),
        ("/p2p/x", None),
        ("", None),
    ],
)
def test_addresses_of_gateways(address: str, url: str | None) -> None:
    found = url_of(address)
    assert (None if found is None else found.text) == url


async def test_what_is_no_source_is_said(tmp_path: Path) -> None:
    async with open_means(RetrievalConfig()) as means:
        with pytest.raises(ShardError, match=r"'ftp://x' is no source; http\(s\)://HOST"):
            source_of("ftp://x", means, tmp_path / "part")


async def test_a_private_address_that_only_a_router_names_is_not_asked(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as served, open_means(RetrievalConfig()) as means:

        async def named(_request: Request) -> Response:
            addresses = [f"/ip4/127.0.0.1/tcp/{served.port}/http"]
            return JSONResponse(
                {"Providers": [{"Protocols": ["transport-ipfs-gateway-http"], "Addrs": addresses}]}
            )

        async with web(Route("/routing/v1/providers/{cid}", named)) as url:
            router = HttpUrl.parse(url)
            means.trust(router)
            (found,) = await providers(router, ANY, means)
            with pytest.raises(ShardError, match="is a private address"):
                await found.raw(ANY)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (RetrievalConfig(attempts=1, response_timeout_s=0.2, connect_timeout_s=0.1), "did not answer in 0.3"),
        (RetrievalConfig(attempts=1, hedge_s=0, stall_timeout_s=0.2), "stalled"),
        (RetrievalConfig(attempts=1, hedge_s=0, max_redirects=0), "more than 0 redirects"),
    ],
)  # fmt: skip
async def test_servers_are_waited_for_as_long_as_configured(
    config: RetrievalConfig, words: str, tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    """A server that is silent, one that stops in the middle, and one that sends elsewhere."""
    expect_warning("failed")
    beginning = {
        "did": b"",
        "stalled": b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.ipld.car\r\nContent-Length: 100\r\n\r\nx",
        "more": b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
    }[words.partition(" ")[0]]

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            if beginning:
                await stream.send_all(beginning)
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        async with retrievals_at(tmp_path, config=config) as retrievals:
            with trio.fail_after(20), pytest.raises(ShardError, match=words):
                await retrievals.wait(retrievals.start(Wanted(str(ANY)), [url]))
        nursery.cancel_scope.cancel()
