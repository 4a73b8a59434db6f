"""`/ipfs/…`: the trustless gateway. Whoever asks verifies what he gets; we verify what we give."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

import trio
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from agent.dagstore.failures import ErrorClass, ShardError
from agent.gateway import answers, cars
from agent.gateway.asked import Asked, CarAsked, RawAsked, Refused, parse
from agent.gateway.endpoint import Endpoint
from agent.local.blocks import Session
from carlib.cid import Cid
from carlib.errors import BlockNotFound, CarError

logger = logging.getLogger(__name__)

WARM: Final = 4  # stores that are asked for a single block before anybody looks up who has it


class Gateway(Endpoint):
    """The ASGI endpoint of `/ipfs/{path}`."""

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        asked = parse(raw_path, request.query_params, request.headers.get("accept", ""))
        cid, path = (
            (asked.cid, ()) if isinstance(asked, RawAsked) else (asked.request.root, asked.request.path)
        )
        status = (await self._answering.deny_list.rules()).status(cid, path)
        if status is not None:
            raise Refused(status, f"{cid} is not served here")
        if answers.has_not_changed(answers.etag(asked), request.headers.get("if-none-match", "\0")):
            await self._answering.head(send, 304, [("etag", answers.etag(asked))], last=True)
            return
        async with self._local.session(warm=WARM if isinstance(asked, RawAsked) else 0) as session:
            try:
                await self._give(asked, session, request, send)
            except Refused as refused:
                if refused.status == 404 and "only-if-cached" in request.headers.get("cache-control", ""):
                    raise Refused(412, str(refused)) from None
                raise

    async def _give(self, asked: Asked, session: Session, request: Request, send: Send) -> None:
        if isinstance(asked, RawAsked):
            await self._raw(asked, session, request, send)
        else:
            await self._car(asked, session, request, send)

    async def _raw(self, asked: RawAsked, session: Session, request: Request, send: Send) -> None:
        data = await trio.to_thread.run_sync(_block, session, asked.cid, limiter=self._local.limiter)
        tag = answers.etag(asked)
        part = answers.part(
            len(data),
            request.headers.get("range", ""),
            tag=tag,
            if_range=request.headers.get("if-range", ""),
        )
        code, more = answers.range_headers(part, len(data))
        headers = answers.headers(asked, [asked.cid]) + more
        await self._answering.head(send, code, headers)
        body = data if part is None else data[part.start : part.stop]
        await self._answering.body(send, b"" if request.method == "HEAD" else body, last=True)

    async def _car(self, asked: CarAsked, session: Session, request: Request, send: Send) -> None:
        roots: Sequence[Cid] = await trio.to_thread.run_sync(
            partial(_resolved, session, asked), limiter=self._local.limiter
        )
        headers = answers.headers(asked, roots)
        if request.method == "HEAD":
            await self._answering.head(send, 200, headers, last=True)
            return
        pieces = cars.pieces(session, asked)
        await self._stream(request.scope, send, pieces, lambda: self._answering.head(send, 200, headers))


def _block(session: Session, cid: Cid) -> bytes:
    try:
        return session.get(cid)
    except BlockNotFound:
        raise Refused(404, f"{cid} is not here") from None
    except (CarError, OSError) as error:
        raise ShardError(ErrorClass.CORRUPT, f"{cid} is here and cannot be read: {error}") from error


def _resolved(session: Session, asked: CarAsked) -> list[Cid]:
    try:
        return cars.resolved(session, asked.request)
    except (CarError, OSError) as error:
        raise ShardError(ErrorClass.CORRUPT, f"{asked.request.root} cannot be read: {error}") from error
