"""A body on its way to a client that may be slow: what has to wait lies in a file, and not in memory.

A client is taken for slow until it has shown that it is not, and is noticed to be while it is waited for: what it is to
get goes into a file without a name, and is sent from there, by the kernel where the server can do that.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import IO, Final

import trio
from starlette.types import Scope, Send

from agent.gateway.answering import Answering

logger = logging.getLogger(__name__)

SLICE_BYTES: Final = 128 * 1024  # in memory for a client, twice, while it is waited for
SLOW_S: Final = 0.25  # for one of them
_WRITING: Final = trio.CapacityLimiter(
    4
)  # of its own, or pieces would be made before others are out of memory
ZERO_COPY: Final = "http.response.zerocopysend"


class Outgoing:
    """The body of one answer; `folder` is for files that nobody sees."""

    def __init__(self, answering: Answering, scope: Scope, send: Send, folder: Path) -> None:
        self._answering = answering
        self._scope = scope
        self._send = send
        self._folder = folder
        self._can_send_files = ZERO_COPY in scope.get("extensions", {})
        self._piece = b""
        self._at = 0  # how far it is sent
        self._since_s = math.inf  # when the send that is under way began
        self._file: IO[bytes] | None = None  # the rest of the piece
        self._is_slow = True

    async def send_all(
        self, pieces: AsyncGenerator[bytes, None], begin: Callable[[], Awaitable[None]]
    ) -> None:
        """Sends what comes, but for the end of the body; `begin` sends the head, once the first piece is there, so that
        an error of that one is a status yet, and raised as it is."""
        # Nothing but this attribute holds a piece, so that it is gone when it is spilled.
        self._piece = await anext(pieces, b"")
        await begin()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch)
                while self._piece:
                    await self._one()
                    self._piece, self._at = b"", 0
                    self._piece = await anext(pieces, b"")
                nursery.cancel_scope.cancel()
        finally:
            if self._file is not None:
                self._file.close()

    async def _one(self) -> None:
        if self._is_slow and len(self._piece) > SLICE_BYTES:
            await self._spill()
        began_s = trio.current_time()
        while self._at < len(self._piece):
            self._since_s = trio.current_time()
            part = self._piece[self._at : self._at + SLICE_BYTES]
            self._at += len(part)
            await self._answering.body(self._send, part)
            self._since_s = math.inf
        if self._file is not None:
            await self._from_file(self._file)
            self._file.close()
            self._file = None
        self._is_slow = trio.current_time() - began_s > SLOW_S

    async def _watch(self) -> None:
        while True:
            await trio.sleep(SLOW_S)
            if trio.current_time() - self._since_s > SLOW_S and self._at < len(self._piece):
                await self._spill()

    async def _spill(self) -> None:
        """Puts what is left of the piece into a file; it stays where it is if that cannot be."""
        start, piece = self._at, self._piece
        try:
            file = await trio.to_thread.run_sync(self._write, memoryview(piece)[start:], limiter=_WRITING)
        except OSError as error:
            logger.info("%s: nothing can be put there for a slow client: %s", self._folder, error.strerror)
            return
        if self._piece is piece and self._at == start:
            self._file, self._piece, self._at = file, b"", 0
        else:  # it was taken meanwhile
            file.close()

    def _write(self, data: memoryview) -> IO[bytes]:
        """A new file each time: of the one before, the kernel may have pages yet that it has not sent."""
        file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115  closed by who takes it
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.close()
            raise
        return file

    async def _from_file(self, file: IO[bytes]) -> None:
        size = file.tell()
        if self._can_send_files:
            await self._answering.file(self._scope, self._send, file, 0, size, last=False)
            return
        file.seek(0)
        while part := file.read(SLICE_BYTES):  # of the page cache: it was just written
            await self._answering.body(self._send, part)
