"""Something done to many shards, a few at a time, told step by step: how `DagstoreInitializeAll` and its like proceed.

Shards are taken in the order given. `Current` of a start is how many have been begun, of an end how many are done
(R-2: Lotus counts the place in a map whose order changes). Whoever leaves the block calls off what has not begun; what
has, the dagstore brings to its end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
import trio

from agent.dagstore.failures import ShardError

AT_ONCE = 1024  # where no limit is set: each that waits costs some memory, and workers are far fewer


class Step(msgspec.Struct, frozen=True, rename="pascal"):
    """In the shape of Lotus' DagstoreInitializeAllEvent."""

    key: str
    event: str  # "start" or "end"
    success: bool
    error: str
    total: int
    current: int


@asynccontextmanager
async def in_bulk(
    keys: Sequence[str], act: Callable[[str], Awaitable[object]], *, limit: int
) -> AsyncIterator[AsyncIterator[Step]]:
    """Two steps for each key, as they happen; `limit` is how many at once, 0 as many as there are.

    A ShardError of `act` is that key's end; anything else ends all.
    """
    sending, receiving = trio.open_memory_channel[Step](0)
    remaining = iter(keys)
    total, begun, done = len(keys), 0, 0

    async def work(out: trio.MemorySendChannel[Step]) -> None:
        nonlocal begun, done
        async with out:
            for key in remaining:
                begun += 1
                await out.send(Step(key, "start", False, "", total, begun))
                error = ""
                try:
                    await act(key)
                except ShardError as problem:
                    error = str(problem)
                done += 1
                await out.send(Step(key, "end", not error, error, total, done))

    async with trio.open_nursery() as nursery:
        async with sending:
            for _ in range(min(limit or AT_ONCE, total)):
                nursery.start_soon(work, sending.clone())
        async with receiving:
            try:
                yield receiving
            finally:
                # Before it is closed, or whoever is about to tell something finds the channel broken.
                nursery.cancel_scope.cancel()
