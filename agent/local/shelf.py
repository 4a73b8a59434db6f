"""Stores that stay open for a moment after they were used, with their leases: a block costs a read, not an opening."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from carlib.blockstore import Blocks

IDLE_S: Final = 5.0
SWEPT_S: Final = 1.0
MOST_IDLE: Final = 64

Open = Callable[[str, AsyncExitStack], Awaitable[Blocks]]
"""Opens the store of a name, for the time of the stack; raises ShardError."""


@dataclass(eq=False, slots=True)
class _Kept:
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    opening: trio.Lock = field(default_factory=trio.Lock)
    blocks: Blocks | None = None
    users: int = 0
    idle_since: float = math.inf
    dropped: bool = False  # whoever asks next gets a new one


class Shelf:
    """By name; get one from `open_shelf`."""

    def __init__(self, open_: Open) -> None:
        self._open = open_
        self._kept: dict[str, _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[Blocks]:
        """The store, open at least for the time of the block; raises what opening it raises."""
        kept = self._kept.setdefault(name, _Kept())
        kept.users += 1
        try:
            async with kept.opening:
                if kept.blocks is None:
                    try:
                        kept.blocks = await self._open(name, kept.stack)
                    except BaseException:
                        self._forget(name, kept)
                        raise
            yield kept.blocks
        finally:
            kept.idle_since = trio.current_time()
            await _release(kept)

    def borrow(self, most: int, stack: AsyncExitStack) -> list[tuple[str, Blocks]]:
        """Stores that are open now, that which was used last in front; they stay so for the time of the stack.

        That alone is no use of them: `used` says which have given something.
        """
        found = [
            (kept.idle_since, name, kept, kept.blocks)
            for name, kept in self._kept.items()
            if kept.blocks is not None
        ]
        found = sorted(found, key=lambda one: one[0], reverse=True)[:most]
        for _, _, kept, _ in found:
            kept.users += 1
            stack.push_async_callback(_release, kept)
        return [(name, blocks) for _, name, _, blocks in found]

    def used(self, name: str) -> None:
        """What was borrowed has given something."""
        kept = self._kept.get(name)
        if kept is not None:
            kept.idle_since = trio.current_time()

    def drop(self, name: str) -> None:
        """Opens it anew when it is next asked for: it was found to be bad."""
        kept = self._kept.get(name)
        if kept is not None:
            self._forget(name, kept)

    def _forget(self, name: str, kept: _Kept) -> None:
        kept.dropped = True
        if self._kept.get(name) is kept:
            del self._kept[name]

    async def sweep(self, *, all_: bool = False) -> None:
        """Closes what nobody has used for a while, or is too much."""
        now_s = trio.current_time()
        idle = sorted(
            ((name, kept) for name, kept in self._kept.items() if not kept.users),
            key=lambda pair: pair[1].idle_since,
        )
        for number, (name, kept) in enumerate(idle):
            if all_ or now_s - kept.idle_since >= IDLE_S or len(idle) - number > MOST_IDLE:
                self._forget(name, kept)
                await _close(kept)


async def _release(kept: _Kept) -> None:
    kept.users -= 1
    if kept.dropped and not kept.users:
        await _close(kept)


async def _close(kept: _Kept) -> None:
    with trio.CancelScope(shield=True):
        await kept.stack.aclose()


@asynccontextmanager
async def open_shelf(open_: Open) -> AsyncIterator[Shelf]:
    """A shelf for the time of the block; nobody may use one of its stores at the end."""
    shelf = Shelf(open_)
    async with trio.open_nursery() as nursery:

        async def sweep() -> None:
            while True:
                await trio.sleep(SWEPT_S)
                await shelf.sweep()

        nursery.start_soon(sweep)
        yield shelf
        nursery.cancel_scope.cancel()
    await shelf.sweep(all_=True)
