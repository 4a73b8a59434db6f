"""A gateway over shards and imports in a test's own trio loop, on a port of loopback, and requests to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import trio

from agent.gateway.application import Serving, open_serving
from agent.gateway.settings import GatewayConfig
from agent.gateway.tls import server_tls
from agent.rpc.binds import TcpBind, UnixBind
from agent.rpc.http import serve
from carlib.cid import Cid
from carlib.header import V1Header
from carlib.multihash import check
from carlib.section import Block, SectionScanner
from tests.agent.export.worlds import World, world_at


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `whole` is false where the connection ended before the body did."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True

    def blocks(self) -> list[tuple[Cid, bytes]]:
        """Those of a CAR, each checked, in their order."""
        scanner = SectionScanner()
        scanner.feed(self.body)
        scanner.feed_end()
        assert isinstance(scanner.next(), V1Header)
        found = []
        while isinstance(block := scanner.next(), Block):
            cid = Cid(block.cid)
            check(cid, block.data)
            found.append((cid, block.data))
        return found


@dataclass(slots=True)
class Served:
    """A gateway that answers."""

    world: World
    serving: Serving
    port: int
    socket: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ask(self, target: str, method: str = "GET", **headers: str) -> Answer:
        """One request over TCP; `_` in a name of a header is `-`."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await trio.to_thread.run_sync(partial(_ask, self.port, method, target, given))


def _ask(port: int, method: str, target: str, headers: Mapping[str, str]) -> Answer:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, target, headers=dict(headers))
        response = connection.getresponse()
        pieces, whole = [], True
        try:
            while piece := response.read(1 << 16):
                pieces.append(piece)
        except Exception:  # IncompleteRead, a reset
            whole = False
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, b"".join(pieces), whole)
    finally:
        connection.close()


@asynccontextmanager
async def gateway_at(path: Path, *, pieces: Path | None = None, **settings: object) -> AsyncIterator[Served]:
    """A gateway with its state below `path`; `pieces` is the folder that `lotus:` finds pieces in."""
    stop = trio.Event()
    path.mkdir(exist_ok=True)
    config = GatewayConfig(**settings)  # type: ignore[arg-type]  # as the test gives them
    async with (
        world_at(path, pieces=pieces) as world,
        open_serving(config, path, world.dagstore, world.holders) as serving,
        trio.open_nursery() as nursery,
    ):
        binds = [TcpBind("127.0.0.1", 0), UnixBind(path / "gateway.sock")]
        tcp, _ = await nursery.start(
            partial(serve, grace_s=0.1, tls=server_tls(config, path)), serving.application(), binds, stop
        )
        assert isinstance(tcp, TcpBind)
        yield Served(world, serving, tcp.port, path / "gateway.sock")
        stop.set()
