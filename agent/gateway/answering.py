"""What all answers over HTTP have in common: how many there may be, how they begin, and how they end where they fail.

What fails before the first byte is a status and a line of text; what fails later ends the connection before the body's
end, so that nobody takes a part for the whole.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import trio
from starlette.types import Receive, Scope, Send

from agent.dagstore.failures import ErrorClass, ShardError
from agent.gateway.answers import Headers
from agent.gateway.asked import Refused
from agent.gateway.denied import DenyList
from agent.gateway.limits import InFlight, TooMany
from agent.rpc.http import Connection
from agent.rpc.lines import cancel_on_disconnect

logger = logging.getLogger(__name__)

Answer = Callable[[Scope, Receive, Send], Awaitable[None]]
_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
SENT_AT_ONCE = 8 << 20  # of a file, between two looks at whether its client still takes it
_STATUS = {
    ErrorClass.NOT_FOUND: 404,
    ErrorClass.GONE: 404,
    ErrorClass.INVALID: 400,
    ErrorClass.DENIED: 403,
    ErrorClass.BUSY: 503,
    ErrorClass.CORRUPT: 502,  # what we have it from gave something else
    ErrorClass.NO_SPACE: 507,
}


class Answering:
    """Shared by all endpoints of the gateway."""

    def __init__(self, in_flight: InFlight, deny_list: DenyList) -> None:
        self.in_flight = in_flight
        self.deny_list = deny_list
        self.sent_bytes = 0
        self.answered: Counter[tuple[str, str]] = Counter()
        """By endpoint and status, which is "broken" too for what ended before its end."""

    async def run(self, answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs one endpoint for one request, within the limits and as long as its client is there."""
        begun = False

        async def watched(message: Any) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                self.answered[_endpoint(scope), str(message["status"])] += 1
            await send(message)

        try:
            with self.in_flight.one(_client(scope)):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cancel_on_disconnect, receive, nursery.cancel_scope)
                    await answer(scope, receive, watched)
                    nursery.cancel_scope.cancel()
        except TooMany as error:
            await self._say(watched, 429, str(error), [("retry-after", str(error.after_s))])
        except BaseExceptionGroup as group:
            if group.split(_GONE)[1] is None:
                return  # nobody takes the answer any more
            matched, rest = group.split((Refused, ShardError))
            if rest is not None or matched is None:
                if not isinstance(group, ExceptionGroup):
                    raise
                logger.exception("an answer failed", exc_info=group)
            await self._fail(scope, watched, matched or group, begun=begun)

    async def _fail(self, scope: Scope, send: Send, error: BaseException, *, begun: bool) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if begun:
            self.answered[_endpoint(scope), "broken"] += 1
            logger.info("%s: an answer broke off, and so does its connection: %s", scope["path"], error)
            connection: Connection = scope["state"]["connection"]
            connection.abort()
            return
        if isinstance(error, Refused):
            await self._say(send, error.status, str(error), [])
        elif isinstance(error, ShardError):
            after = (
                [("retry-after", str(self.in_flight.after_s))] if error.error_class is ErrorClass.BUSY else []
            )
            await self._say(send, _STATUS.get(error.error_class, 500), str(error), after)
        else:
            await self._say(send, 500, "it failed, and the agent's log says how", [])

    async def _say(self, send: Send, status: int, text: str, more: Headers) -> None:
        body = f"{text}\n".encode("utf-8", "backslashreplace")
        headers = [("content-type", "text/plain; charset=utf-8"), ("content-length", str(len(body))), *more]
        if status in (404, 412, 429, 503):
            headers.append(("cache-control", "no-store"))
        await self.head(send, status, headers)
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def head(self, send: Send, status: int, headers: Headers, *, last: bool = False) -> None:
        encoded = [(name.encode(), value.encode("latin-1", "backslashreplace")) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        if last:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def body(self, send: Send, data: bytes, *, last: bool = False) -> None:
        self.sent_bytes += len(data)
        await send({"type": "http.response.body", "body": data, "more_body": not last})

    async def file(
        self, scope: Scope, send: Send, file: Any, offset: int, length: int, *, last: bool = True
    ) -> None:
        """Bytes of an open file, by sendfile; only where the server has it (`zerocopysend`)."""
        connection: Connection = scope["state"]["connection"]
        end = offset + length
        for start in range(offset, end, SENT_AT_ONCE):
            count = min(SENT_AT_ONCE, end - start)
            connection.waits_since = trio.current_time()
            try:
                await send(
                    {
                        "type": "http.response.zerocopysend",
                        "file": file,
                        "offset": start,
                        "count": count,
                        "more_body": start + count < end or not last,
                    }
                )
            finally:
                connection.waits_since = float("inf")
            self.sent_bytes += count


def _endpoint(scope: Scope) -> str:
    path: str = scope["path"]
    return path.split("/")[1]


def _client(scope: Scope) -> str:
    connection: Connection = scope["state"]["connection"]
    if connection.peer is not None:
        return f"uid {connection.peer.uid}"
    client = scope.get("client")
    return str(client[0]) if client else ""
