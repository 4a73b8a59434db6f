"""Data that comes from a client, on its way to a worker: frames in a FIFO, so that an end that is none is noticed.

A frame is `u32 length | bytes`, little-endian; one of length 0 is the end. A FIFO that ends before it was cut off, and
whatever was made of it is not the whole.
"""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncIterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from agent.dagstore.failures import ErrorClass, ShardError

_LENGTH = struct.Struct("<I")
FRAME_BYTES = 1 << 20


async def feed(path: Path, pieces: AsyncIterable[bytes], done: trio.Event) -> None:
    """Writes `pieces` into the FIFO, and holds it open until `done`: nobody is told of an end that is none."""
    # Open for both, so that it neither waits for a reader nor is told off when that one goes.
    async with trio.lowlevel.FdStream(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)) as fifo:
        async for piece in pieces:
            for start in range(0, len(piece), FRAME_BYTES):
                part = piece[start : start + FRAME_BYTES]
                await fifo.send_all(_LENGTH.pack(len(part)) + part)
        await fifo.send_all(_LENGTH.pack(0))
        await done.wait()


@contextmanager
def reading(path: Path) -> Iterator[Iterator[bytes]]:
    """What comes through the FIFO, for a process that may block; raises ShardError(cancelled) if it is cut off."""
    with path.open("rb", buffering=FRAME_BYTES) as fifo:

        def pieces() -> Iterator[bytes]:
            while True:
                head = fifo.read(_LENGTH.size)
                length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else -1
                if not length:
                    return
                data = fifo.read(length) if 0 < length <= FRAME_BYTES else b""
                if not data or len(data) < length:
                    raise ShardError(ErrorClass.CANCELLED, "the stream ended before its end")
                yield data

        yield pieces()
