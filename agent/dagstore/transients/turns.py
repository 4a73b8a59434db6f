"""Turns: for each name, one at a time; a name that nobody waits for takes no room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio


@dataclass(eq=False, slots=True)
class _Turn:
    lock: trio.Lock = field(default_factory=trio.Lock)
    takers: int = 0  # whoever has it, and those who wait


class Turns:
    """A name is in it while somebody has its turn or waits for it."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._turns

    @asynccontextmanager
    async def of(self, name: str) -> AsyncIterator[None]:
        """For the time of the block, once it is our turn."""
        turn = self._turns.setdefault(name, _Turn())
        turn.takers += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.takers -= 1
            if not turn.takers:
                del self._turns[name]
