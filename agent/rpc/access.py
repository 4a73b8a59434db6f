"""Who may come in: the kernel's word about the peer on the Unix socket, a bearer token over TCP.

An ASGI layer in front of the application. Who passes is found as `scope["state"]["caller"]`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from agent.dagstore.failures import ShardError
from agent.rpc import browsers
from agent.rpc.http import Connection
from agent.rpc.peers import Caller, permission_of
from agent.rpc.tokens import TokenRefused, Tokens

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rules:
    """Who is let in, by configuration."""

    admin_gid: int | None = None
    hosts: Collection[str] = ()  # names that a Host header may have besides addresses and localhost
    origins: Collection[str] = ()  # of web pages that may call


class Access:
    """Lets in whom the rules allow, and tells all others why not: 401 without a token of ours, 403 from a browser."""

    def __init__(self, app: ASGIApp, rules: Rules, tokens: Tokens) -> None:
        self._app = app
        self._rules = rules
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        connection: Connection = scope["state"]["connection"]
        if connection.peer is not None:
            permission = permission_of(connection.peer, admin_gid=self._rules.admin_gid)
            scope["state"]["caller"] = Caller(
                permission, f"process {connection.peer.pid} uid {connection.peer.uid}"
            )
            await self._app(scope, receive, send)
            return
        await self._over_tcp(connection, scope, receive, send)

    async def _over_tcp(self, connection: Connection, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        rules = self._rules
        reason = browsers.refusal(
            headers.get("host", ""), headers.get("origin"), hosts=rules.hosts, origins=rules.origins
        )
        if reason:
            logger.info("%s: refused: %s", connection.name, reason)
            await PlainTextResponse(reason, status_code=403)(scope, receive, send)
            return
        try:
            permission = self._tokens.verify(_token(headers, scope["query_string"]))
        except (TokenRefused, ShardError) as error:
            logger.info("%s: refused: %s", connection.name, error)
            response = PlainTextResponse(str(error), 401, headers={"WWW-Authenticate": "Bearer"})
            await response(scope, receive, send)
            return
        scope["state"]["caller"] = Caller(permission, f"token at {connection.name}")
        with self._tokens.held(connection.abort):
            await self._app(scope, receive, send)


def _token(headers: Headers, query: bytes) -> str:
    """The token of a request, from where Lotus' clients put it: a header, or the query. Raises TokenRefused."""
    header = headers.get("authorization", "")
    if header:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenRefused("the Authorization header is not 'Bearer TOKEN'")
        return token.strip()
    found = parse_qs(query.decode("latin-1")).get("token", [""])[0]
    if not found:
        raise TokenRefused("a token is needed: Authorization: Bearer TOKEN (see carfs auth create-token)")
    return found
