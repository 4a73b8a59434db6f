"""What the endpoints that give blocks and streams of them have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

from starlette.types import Receive, Scope, Send

from agent.gateway import cars
from agent.gateway.answering import Answering
from agent.gateway.outgoing import Outgoing
from agent.local.blocks import LocalBlocks


class Endpoint:
    """An ASGI endpoint; who inherits it answers one request in `_answer`."""

    def __init__(self, local: LocalBlocks, answering: Answering, folder: Path) -> None:
        """`folder` is for what slow clients have to wait for."""
        self._local = local
        self._answering = answering
        self._folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answering.run(self._answer, scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError

    async def _stream(
        self, scope: Scope, send: Send, made: Iterator[bytes], begin: Callable[[], Awaitable[None]]
    ) -> None:
        """The whole body, which an iterator that blocks makes; `begin` sends the head (see `Outgoing.send_all`)."""
        out = Outgoing(self._answering, scope, send, self._folder)
        async with aclosing(cars.in_threads(made, self._local.limiter)) as pieces:
            await out.send_all(pieces, begin)
        await self._answering.body(send, b"", last=True)
