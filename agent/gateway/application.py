"""The routes of the gateway, and who may come in over TCP: anybody, but no web page that was not allowed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from agent.dagstore.dagstore import Dagstore
from agent.export.holders import Holders
from agent.gateway.answering import Answering
from agent.gateway.denied import DenyList
from agent.gateway.gateway import Gateway
from agent.gateway.kubo import KuboRpc
from agent.gateway.limits import InFlight
from agent.gateway.pieces import Pieces
from agent.gateway.settings import GatewayConfig
from agent.local.blocks import LocalBlocks, open_local_blocks
from agent.rpc import browsers


@dataclass(frozen=True, slots=True)
class Serving:
    """What answers over HTTP without a token."""

    answering: Answering
    local: LocalBlocks
    routes: tuple[BaseRoute, ...]
    config: GatewayConfig
    addresses: list[str] = field(default_factory=list)  # URLs over TCP, once they are bound

    def application(self, more: Collection[BaseRoute] = ()) -> ASGIApp:
        """For listeners that are the gateway's alone."""
        return _Public(Starlette(routes=[*self.routes, *more]), self.config.allowed_hosts)


@asynccontextmanager
async def open_serving(
    config: GatewayConfig, home: Path, dagstore: Dagstore, holders: Holders
) -> AsyncIterator[Serving]:
    """For the time of the block; `home` is $CARFS_PATH."""
    deny_list = DenyList(home / config.deny_list if config.deny_list else None)
    in_flight = InFlight(config.max_requests, config.max_per_client, config.retry_after_s)
    answering = Answering(in_flight, deny_list)
    async with open_local_blocks(holders, readers=config.readers) as local:
        pieces = Pieces(dagstore, holders, answering, config.readers)
        methods = ["GET", "HEAD"]
        routes = (
            Route("/ipfs/{path:path}", Gateway(local, answering, home), methods=methods),
            Route("/piece/{cid}", pieces, methods=methods),
            Route("/api/v0/{command:path}", KuboRpc(local, answering, home)),
        )
        yield Serving(answering, local, routes, config)


class _Public:
    """Refuses what a web page asks for under a name that is not this machine's (DNS rebinding)."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            # Data that anybody may have are no secret; what a page may not do is to look into a network by our hand.
            reason = (
                ""
                if origin is None
                else browsers.refusal(headers.get("host", ""), None, hosts=self._hosts, origins=())
            )
            if reason:
                await PlainTextResponse(reason, status_code=403)(scope, receive, send)
                return
        await self._app(scope, receive, send)
