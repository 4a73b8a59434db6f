"""What waits to be sent on one connection: bounded, and whoever does not keep up is cut.

A stream waits until there is room, which holds up nobody but itself. An answer does not wait, since it was asked for
and its call is over; a client that asks for more than it reads is cut when `LIMIT_BYTES` wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

ROOM_BYTES = 256 * 1024  # streams wait while more than this waits
LIMIT_BYTES = 64 * 1024 * 1024  # an answer that is alone may be longer


class Outbox:
    """Frames in the order in which they were put; one task takes them."""

    def __init__(self, on_cut: Callable[[], None]) -> None:
        self._on_cut = on_cut
        self._frames: deque[bytes] = deque()
        self._size = 0
        self._arrived = trio.Event()
        self._taken = trio.Event()

    def put(self, frame: bytes) -> None:
        """Takes a frame in, at once; too many that were not taken cut the connection and are dropped."""
        if self._frames and self._size + len(frame) > LIMIT_BYTES:
            self._frames.clear()
            self._size = 0
            self._on_cut()
            return
        self._frames.append(frame)
        self._size += len(frame)
        self._arrived.set()

    async def wait_room(self) -> None:
        """Returns when a stream may put its next value."""
        while self._size > ROOM_BYTES:
            await self._taken.wait()

    async def wait_empty(self) -> None:
        """Returns when all was sent."""
        while self._frames:
            await self._taken.wait()

    async def take(self) -> bytes:
        """The next frame, once there is one."""
        while not self._frames:
            self._arrived = trio.Event()
            await self._arrived.wait()
        return self._frames[0]

    def taken(self) -> None:
        """The frame that `take` gave was sent."""
        if self._frames:
            self._size -= len(self._frames.popleft())
        self._taken.set()
        self._taken = trio.Event()  # for those who go on waiting
