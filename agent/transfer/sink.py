"""Where blocks go: `carlib.readwrite.ReadWriteBlockstore`, and what else does as it does."""

from __future__ import annotations

from typing import Protocol

from carlib.cid import Cid


class Sink(Protocol):
    """Verified blocks, kept; every call may block and is made in a thread."""

    def put(self, cid: Cid, data: bytes | memoryview, *, verified: bool = False) -> bool:
        """Keeps the block; whether it was not there yet. Raises CarError, OSError."""

    def get(self, cid: Cid) -> bytes:
        """A block that is there, verified; raises CarError, OSError."""

    def has(self, cid: Cid) -> bool:
        """Never blocks."""

    def size(self, cid: Cid) -> int:
        """Bytes of a block that is there."""

    def sync(self) -> None:
        """Makes what was put survive a power cut."""
