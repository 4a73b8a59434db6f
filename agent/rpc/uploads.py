"""`PUT /rest/v0/import`: a body becomes an import, as it comes and without a copy of it; what Lotus' clients call.

The answer is `{"Cid": {"/": ROOT}}`, with `ImportID`, `Name` and `Existing` beside it, which Lotus does not have. In
the query, which Lotus does not have either, may be `name`, `profile` and `kind` (`dense`, `car`, or `auto`, which looks
at the first bytes). Whoever hangs up before the end leaves nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from agent.dagstore.actors import acting
from agent.dagstore.failures import ErrorClass, ShardError
from agent.imports import requests
from agent.imports.imports import Imports, Outcome
from agent.rpc.peers import Caller, Permission
from agent.rpc.registry import CODES
from agent.rpc.services import Services
from carlib.header import PRAGMA
from carlib.unixfs.profile import LOTUS

PATH = "/rest/v0/import"
_STATUS = {
    ErrorClass.INVALID: 400,
    ErrorClass.NOT_FOUND: 404,
    ErrorClass.EXISTS: 409,
    ErrorClass.CORRUPT: 422,
    ErrorClass.NO_SPACE: 507,
}
_KINDS = ("dense", "car", "auto")


class _Answer(msgspec.Struct, frozen=True):
    root: dict[str, str] = msgspec.field(name="Cid")
    number: int = msgspec.field(name="ImportID")
    name: str = msgspec.field(name="Name")
    existing: bool = msgspec.field(name="Existing")


class Uploads:
    """The ASGI endpoint."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller: Caller = scope["state"]["caller"]
        try:
            response = await self._answer(Request(scope, receive), caller)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request, caller: Caller) -> Response:
        if caller.permission < Permission.WRITE:
            return JSONResponse({"Error": "unauthorized: missing write permission"}, 401)  # Lotus' words
        try:
            if self._services.importing is None:
                raise ShardError(ErrorClass.INVALID, "this agent has no imports")
            imports = self._services.importing.imports
            with acting(f"rpc: {caller.name}"):
                outcome = await _import(imports, request)
            record = imports.record(outcome.number)
        except ShardError as error:
            answer = {
                "Error": str(error), "Class": error.error_class.value, "Code": CODES[error.error_class],
            }  # fmt: skip
            return JSONResponse(answer, _STATUS.get(error.error_class, 500))
        given = _Answer({"/": record.root or ""}, record.id, record.name, outcome.existing)
        return Response(msgspec.json.encode(given), media_type="application/json")


async def _import(imports: Imports, request: Request) -> Outcome:
    query = request.query_params
    kind = query.get("kind", "dense")
    if kind not in _KINDS:
        raise ShardError(ErrorClass.INVALID, f"kind {kind!r}; there is {', '.join(_KINDS)}")
    body = _Body(request)
    if kind == "auto":
        kind = "car" if await body.begins_as_car() else "dense"
    wanted = requests.Request(
        "car" if kind == "car" else "dense",
        query.get("name", ""),
        query.get("profile", LOTUS.name),
    )
    return await imports.add_stream(body.pieces(), wanted)


class _Body:
    """The body of a request, the beginning of which was looked at."""

    def __init__(self, request: Request) -> None:
        self._stream = request.stream()
        self._head = b""

    async def begins_as_car(self) -> bool:
        async for piece in self._stream:
            self._head += piece
            if len(self._head) >= 64:
                break
        return self._head.startswith(PRAGMA) or (b"\xa2" in self._head[1:11] and b"eroots" in self._head)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Raises ShardError(cancelled)."""
        if self._head:
            yield self._head
        try:
            async for piece in self._stream:
                if piece:
                    yield bytes(piece)
        except ClientDisconnect:
            raise ShardError(ErrorClass.CANCELLED, "the client hung up before the end") from None
