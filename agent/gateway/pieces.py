"""`/piece/CID`: the data of a piece by its CID of either version (FRC-0066), with ranges; by sendfile where they lie in
a file as they are.

The body is the payload: what was committed to, without the zeros that pad it. `?padded=true` gives those, too: the
unpadded piece, whose size a v1 CID implies.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import trio
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from agent.dagstore.access import Access, FileAccess, open_source
from agent.dagstore.dagstore import Dagstore
from agent.dagstore.failures import ErrorClass, ShardError
from agent.export.holders import Holders
from agent.gateway import answers, cars
from agent.gateway.answering import Answering
from agent.gateway.asked import CAR_TYPE, Refused
from carlib.cid import Cid
from carlib.errors import CarError
from carlib.piece import cids
from carlib.piece.cids import Piece
from carlib.piece.sizes import height_for, unpadded_at
from carlib.source import ByteSource

PIECE_BYTES: Final = 1 << 20
_ZEROS: Final = bytes(PIECE_BYTES)


@dataclass(frozen=True, slots=True)
class Payload:
    """What a piece's shard has."""

    source: ByteSource
    size: int
    mtime_ns: int
    path: Path | None  # the file that is all of it, from its first byte on


class Pieces:
    """The ASGI endpoint."""

    def __init__(self, dagstore: Dagstore, holders: Holders, answering: Answering, readers: int) -> None:
        self._dagstore = dagstore
        self._holders = holders
        self._answering = answering
        self._limiter = trio.CapacityLimiter(readers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answering.run(self._answer, scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        cid = _piece_cid(request.path_params["cid"])
        status = (await self._answering.deny_list.rules()).status(cid)
        if status is not None:
            raise Refused(status, f"{cid} is not served here")
        async with self._payload(cid) as payload:
            size = payload.size
            if request.query_params.get("padded", "") in ("true", "1"):
                size = unpadded_at(height_for(payload.size))
            tag, modified = (
                f'"{cid}{"" if size == payload.size else ".padded"}"',
                answers.http_date(payload.mtime_ns),
            )
            headers = [
                ("content-type", f"{CAR_TYPE}; version=1"),
                ("content-disposition", answers.disposition(f"{cid}.car")),
                ("etag", tag), ("last-modified", modified), ("cache-control", answers.IMMUTABLE),
                ("accept-ranges", "bytes"), ("x-content-type-options", "nosniff"),
            ]  # fmt: skip
            if answers.has_not_changed(tag, request.headers.get("if-none-match", "\0")):
                await self._answering.head(send, 304, [("etag", tag)], last=True)
                return
            try:
                part = answers.part(
                    size, request.headers.get("range", ""), tag=tag, modified=modified,
                    if_range=request.headers.get("if-range", ""),
                )  # fmt: skip
            except Refused:
                more = [("content-range", f"bytes */{size}"), ("content-length", "0")]
                await self._answering.head(send, 416, more, last=True)
                return
            code, more = answers.range_headers(part, size)
            start, stop = (0, size) if part is None else (part.start, part.stop)
            if request.method == "HEAD" or start == stop:
                await self._answering.head(send, code, headers + more, last=True)
                return
            await self._answering.head(send, code, headers + more)
            await self._send(scope, send, payload, start, stop)

    async def _send(self, scope: Scope, send: Send, payload: Payload, start: int, stop: int) -> None:
        in_place = payload.path is not None and stop <= payload.size
        if in_place and "http.response.zerocopysend" in scope.get("extensions", {}):
            assert payload.path is not None
            descriptor = await trio.to_thread.run_sync(os.open, payload.path, os.O_RDONLY | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                await self._answering.file(scope, send, file, start, stop - start)
            return
        async with aclosing(cars.in_threads(_bytes(payload, start, stop), self._limiter)) as pieces:
            async for piece in pieces:
                await self._answering.body(send, piece)
        await self._answering.body(send, b"", last=True)

    @asynccontextmanager
    async def _payload(self, cid: Cid) -> AsyncIterator[Payload]:
        """The data of the shard of that piece, leased for the time of the block; raises Refused(404), ShardError."""
        key = self._key(cid)
        async with AsyncExitStack() as stack:
            params, fetch = await self._holders.open_one(f"shard {key}", stack)
            record = self._dagstore.record(key)
            access: Access = msgspec.convert(params["access"], Access)
            try:
                source = await trio.to_thread.run_sync(open_source, access, fetch, limiter=self._limiter)
            except OSError as error:
                raise ShardError(ErrorClass.GONE, f"{key}: {error.strerror}") from error
            with closing(source):
                mtime_ns = record.fingerprint.mtime_ns if record.fingerprint is not None else 0
                path = Path(access.path) if isinstance(access, FileAccess) else None
                size = _size_of(cid, source.size)
                yield Payload(source, size, mtime_ns, path)

    def _key(self, cid: Cid) -> str:
        piece = Piece(cids.root_of(cid), 0).v1
        names = [str(cid), str(piece)]
        for name in names:
            if self._dagstore.find_life(name) is not None:
                return name
        raise Refused(404, f"piece {cid} is not here")


def _size_of(cid: Cid, size: int) -> int:
    """A v2 CID says it; raises Refused(404) where what is here is another size."""
    try:
        piece = Piece.of(cid, payload_size=size)
    except CarError:
        raise Refused(
            404, f"what is here of piece {cid} has {size} bytes, which are not those of the CID"
        ) from None
    return piece.payload_size


def _piece_cid(text: str) -> Cid:
    try:
        cid = Cid.parse(text)
        cids.root_of(cid)
    except (CarError, ValueError) as error:
        raise Refused(400, f"{text[:120]!r} is not a piece CID: {error}") from None
    return cid


def _bytes(payload: Payload, start: int, stop: int) -> Iterator[bytes]:
    """Bytes of the piece: of the payload, and the zeros behind it."""
    position = start
    while position < stop:
        count = min(PIECE_BYTES, stop - position)
        if position < payload.size:
            count = min(count, payload.size - position)
            yield payload.source.pread(position, count)
        else:
            yield _ZEROS[:count]
        position += count
