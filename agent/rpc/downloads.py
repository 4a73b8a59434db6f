"""`GET /rest/v0/export`: a file or a CAR out of imports and shards, as it is read, as Lotus has it.

The query has `export`, an ExportRef as JSON, and `car`, "true" for a CAR. What fails before the first byte is answered
with a status and `{"Error", "Class", "Code"}`; what fails later ends the connection before the body's end, so that
nobody takes a part for the whole.
"""

from __future__ import annotations

import logging

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from agent.dagstore.actors import acting
from agent.dagstore.failures import ErrorClass, ShardError
from agent.rpc.lines import cancel_on_disconnect
from agent.rpc.methods.export import ExportRef, exporter, order_of
from agent.rpc.peers import Caller, Permission
from agent.rpc.registry import CODES
from agent.rpc.services import Services

logger = logging.getLogger(__name__)

PATH = "/rest/v0/export"
_STATUS = {
    ErrorClass.INVALID: 400,
    ErrorClass.DENIED: 403,
    ErrorClass.NOT_FOUND: 404,
    ErrorClass.GONE: 404,
    ErrorClass.BUSY: 409,
    ErrorClass.CORRUPT: 422,
}
_TRUE = ("true", "1", "t", "TRUE", "True")  # what Go takes for it


class Downloads:
    """The ASGI endpoint; it stops when its client has gone."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller: Caller = scope["state"]["caller"]
        if caller.permission < Permission.WRITE:
            refused = JSONResponse({"Error": "unauthorized: missing write permission"}, 401)  # Lotus' words
            await refused(scope, receive, send)
            return
        body = _Body(send)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_on_disconnect, receive, nursery.cancel_scope)
                with acting(f"rpc: {caller.name}"):
                    await self._give(Request(scope, receive), caller, body)
                await body.end()
                nursery.cancel_scope.cancel()
        except* ShardError as group:
            (error, *_) = group.exceptions
            assert isinstance(error, ShardError)
            await _fail(error, body, scope, receive, send)
        except* Exception as group:  # the boundary of a request
            logger.exception("an export failed", exc_info=group)
            await _fail(ShardError(ErrorClass.BUG, repr(group)), body, scope, receive, send)

    async def _give(self, request: Request, caller: Caller, body: _Body) -> None:
        services = self._services.for_caller(caller)
        query = request.query_params
        try:
            ref = msgspec.json.decode(query.get("export", "{}"), type=ExportRef)
        except msgspec.DecodeError as error:
            raise ShardError(ErrorClass.INVALID, f"export: {error}") from None
        order = order_of(services, ref, is_car=query.get("car", "false") in _TRUE)
        await exporter(services).stream(order, body.send)


class _Body:
    """The body of an answer, which begins with its first byte."""

    def __init__(self, send: Send) -> None:
        self.begun = False
        self._send = send

    async def send(self, data: bytes) -> None:
        await self._begin()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        await self._begin()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self) -> None:
        if not self.begun:
            self.begun = True
            headers = [(b"content-type", b"application/octet-stream")]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})


async def _fail(error: ShardError, body: _Body, scope: Scope, receive: Receive, send: Send) -> None:
    if body.begun:
        logger.warning("an export broke off, and so does its connection: %s", error)
        scope["state"]["connection"].abort()
        return
    answer = {"Error": str(error), "Class": error.error_class.value, "Code": CODES[error.error_class]}
    await JSONResponse(answer, _STATUS.get(error.error_class, 500))(scope, receive, send)
