"""Data that comes from a client, on its way to a worker: frames in a FIFO, so that an end that is none is noticed.

A frame is `u32 length | bytes`, little-endian; one of length 0 is the end. A FIFO that ends before it was cut off, and
whatever was made of it is not the whole.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import AsyncIterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from agent.dagstore.failures import ErrorClass, ShardError

if TYPE_CHECKING:
    import trio

_LENGTH = struct.Struct("<I")
FRAME_BYTES = 1 << 20


async def feed(path: Path, pieces: AsyncIterable[bytes], done: trio.Event) -> None:
    """Writes `pieces` into the FIFO, and holds it open until `done`: nobody is told of an end that is none."""
    import trio  # here, since the worker processes, which read, have no event loop

    # Open for both, so that it neither waits for a reader nor is told off when that one goes.
    async with trio.lowlevel.FdStream(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)) as fifo:
        async for piece in pieces:
            for start in range(0, len(piece), FRAME_BYTES):
                part = piece[start : start + FRAME_BYTES]
                await fifo.send_all(_LENGTH.pack(len(part)) + part)
        await fifo.send_all(_LENGTH.pack(0))
        await done.wait()


class Arriving(io.RawIOBase):
    """What comes through the FIFO, for a process that may block; raises ShardError(cancelled) if it is cut off."""

    def __init__(self, path: Path) -> None:
        self._fifo = path.open("rb", buffering=FRAME_BYTES)
        self._left = 0  # of the frame
        self._at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # Any: a buffer, which Python 3.11 has no type for
        if not self._left and not self._at_end:
            head = self._fifo.read(_LENGTH.size)
            if len(head) < _LENGTH.size:
                raise _cut_off()
            (self._left,) = _LENGTH.unpack(head)
            self._at_end = not self._left
        if self._at_end:
            return 0
        data = self._fifo.read(min(self._left, len(buffer)))
        if not data:
            raise _cut_off()
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        self._fifo.close()
        super().close()


def arriving(path: Path) -> BinaryIO:
    """The same, as streams of bytes are read."""
    return io.BufferedReader(Arriving(path), FRAME_BYTES)


def _cut_off() -> ShardError:
    return ShardError(ErrorClass.CANCELLED, "the stream ended before its end")
