"""NDJSON over HTTP: one value of JSON on a line, sent as it comes, for `/events` and for methods that give streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import trio
from starlette.types import Receive, Send

MEDIA_TYPE = "application/x-ndjson"
PIECE_BYTES = 64 * 1024  # of a stream, sent at once

_encode = msgspec.json.Encoder().encode


def line(value: object) -> bytes:
    return _encode(value) + b"\n"


def joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines in pieces that take little time to make, since others wait for that, and few sends."""
    piece = bytearray()
    for one in lines:
        piece += one
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


async def begin(send: Send) -> None:
    """The head of a response of lines."""
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def send_lines(send: Send, lines: bytes, *, last: bool = False) -> None:
    await send({"type": "http.response.body", "body": lines, "more_body": not last})


async def cancel_on_disconnect(receive: Receive, scope: trio.CancelScope) -> None:
    """Cancels `scope` when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
