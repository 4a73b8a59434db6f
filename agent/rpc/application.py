"""The ASGI application of the agent, and who comes in: `/rpc/v0`, `/rest/v0/…`, `/events` and `/metrics`."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp

from agent.dagstore.events import Hub
from agent.rpc import downloads, uploads
from agent.rpc.access import Access, Rules
from agent.rpc.exposition import MetricsPage
from agent.rpc.post import PostRpc
from agent.rpc.services import Services
from agent.rpc.sessions import Events
from agent.rpc.websocket import WebSocketRpc

RPC_PATHS = ("/rpc/v0", "/rpc/v1")  # Lotus has two; what there is of it here is the same in both


def application(services: Services, hub: Hub, rules: Rules | None = None) -> ASGIApp:
    """The application for `rpc.http.serve`."""
    rules = rules or Rules()
    post, socket = PostRpc(services), WebSocketRpc(services)
    routes: list[BaseRoute] = [
        Route("/events", Events(services, hub), methods=["GET"]),
        Route(uploads.PATH, uploads.Uploads(services), methods=["PUT"]),
        Route(downloads.PATH, downloads.Downloads(services), methods=["GET"]),
        Route("/metrics", MetricsPage(services), methods=["GET"]),
    ]
    if services.serving is not None:
        routes += services.serving.routes
    calls = [Route(path, post, methods=["POST"]) for path in RPC_PATHS]
    sockets = [WebSocketRoute(path, socket) for path in RPC_PATHS]
    app: ASGIApp = Access(Starlette(routes=[*routes, *calls, *sockets]), rules, services.tokens)
    if not rules.origins:
        return app
    # In front, since a browser asks whether it may ask before it shows its token.
    allowed = ["authorization", "content-type", "accept"]
    return CORSMiddleware(
        app, allow_origins=list(rules.origins), allow_methods=["GET", "POST", "PUT"], allow_headers=allowed
    )
