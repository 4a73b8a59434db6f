"""Objects of HTTP servers, read by ranges, for `http` and `s3`: redirects, conditions, and the bytes themselves."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import answers
from agent.dagstore.mounts.mount import MAX_CHUNK_BYTES, Fingerprint, TryLater
from agent.dagstore.mounts.urls import HttpUrl, shown

if TYPE_CHECKING:
    from agent.dagstore.mounts.fetcher import Answer, Fetcher

SMALL_BODY_BYTES: Final = 64 << 10  # read to its end, which keeps the connection

_ERROR_CODE = re.compile(rb"<Code>([A-Za-z]{1,64})</Code>")

Condition = Literal["If-Range", "If-Match"]
"""Which header says that the data must be the same; S3 knows only If-Match."""


@dataclass(frozen=True, slots=True)
class Web:
    """Reads objects through a fetcher. `name` is what errors call the object."""

    fetcher: Fetcher
    max_redirects: int
    wall_clock: Callable[[], float] = time.time

    async def look(self, url: HttpUrl, name: str) -> Fingerprint:
        """Size and validators, from a request for the first byte, since HEAD is often refused, or answered by
        something else than what answers GET. Raises ShardError."""
        async with self._answer(url, {"range": "bytes=0-0"}, name) as answer:
            code = await _error_code(answer)
            found = answers.look_result(answer.status, answer.headers, name, self.wall_clock(), code)
            await _drain(answer)
            return found

    @asynccontextmanager
    async def stream(
        self,
        url: HttpUrl,
        name: str,
        offset: int,
        length: int,
        expected: Fingerprint,
        condition: Condition = "If-Range",
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """As `Mount.stream`, for a range of at least one byte that lies in the data."""
        headers = {"range": f"bytes={offset}-{offset + length - 1}"}
        validator = answers.validator(expected)
        if validator and (condition == "If-Range" or expected.etag):
            headers[condition.lower()] = validator
        async with self._answer(url, headers, name) as answer:
            code, now = await _error_code(answer), self.wall_clock()
            body = answers.body_of(answer.status, answer.headers, name, now, offset, length, expected, code)
            async with aclosing(_taken(answer.body, body, name)) as pieces:
                yield pieces

    @asynccontextmanager
    async def _answer(self, url: HttpUrl, headers: Mapping[str, str], name: str) -> AsyncIterator[Answer]:
        """The answer at the end of the redirects."""
        start = url
        for _ in range(self.max_redirects + 1):
            # Credentials go to the server that they were given for, and to none that it names.
            own = start.authorization if url.origin == start.origin else {}
            async with self.fetcher.get(url, {**headers, **own}) as answer:
                location = answer.headers.get("location")
                if answer.status not in answers.REDIRECTS or location is None:
                    yield answer
                    return
                await _drain(answer)
            url = _next(url, location, name)
        message = f"{name}: redirected more than {self.max_redirects} times (mounts.max_redirects)"
        raise ShardError(ErrorClass.INVALID, message)


def _next(url: HttpUrl, location: str, name: str) -> HttpUrl:
    found = url.join(location)
    if (url.scheme, found.scheme) == ("https", "http"):
        message = f"{name}: redirected from https to {shown(location)}, where anybody could change the data"
        raise ShardError(ErrorClass.DENIED, message)
    return found


async def _error_code(answer: Answer) -> str:
    """What S3 calls the error, which says more than its status."""
    size = answer.headers.get("content-length", "")
    if answer.status < 400 or not size.isdigit() or int(size) > SMALL_BODY_BYTES:
        return ""
    text = b""
    with suppress(ShardError):
        async for piece in answer.body:
            text += piece
    match = _ERROR_CODE.search(text)
    return match[1].decode() if match is not None else ""


async def _drain(answer: Answer) -> None:
    """Reads a short body, so that the connection can be used again; whatever is wrong with it is of no interest, and a
    long one is cut off with its connection."""
    size = answer.headers.get("content-length", "")
    if size.isdigit() and int(size) <= SMALL_BODY_BYTES:
        with suppress(ShardError):
            async for _ in answer.body:
                pass


async def _taken(body: AsyncIterator[bytes], part: answers.Body, name: str) -> AsyncGenerator[bytes, None]:
    """The bytes of the range; raises ShardError where the body has fewer, or goes on behind it."""
    skip, left = part.skip, part.take
    async for piece in body:
        if skip >= len(piece):
            skip -= len(piece)
            continue
        wanted = memoryview(piece)[skip:]
        skip = 0
        if len(wanted) > left and part.whole:
            raise ShardError(ErrorClass.CORRUPT, f"{name}: its server sent more than was asked for")
        wanted = wanted[:left]
        left -= len(wanted)
        for start in range(0, len(wanted), MAX_CHUNK_BYTES):
            yield bytes(wanted[start : start + MAX_CHUNK_BYTES])
        if not left and not part.whole:
            return  # what follows is not ours; the connection is closed on it
    if left:
        raise TryLater(f"{name}: the transfer ended {left} bytes before its end")
