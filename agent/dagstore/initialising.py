"""Indexing all shards that wait for it, with Lotus' events: what `initialize-all` shows."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

import msgspec
import trio

from agent.dagstore.failures import ShardError

UNREAD = 64  # events; whoever does not read them holds this up and nothing else


class InitialiseEvent(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' DagstoreInitializeAllEvent."""

    key: str
    event: str  # "start" | "end"
    success: bool
    error: str
    total: int  # shards that are to be initialised
    current: int  # at a start how many have been begun, at an end how many are done


async def initialise_each(
    keys: Sequence[str],
    initialise: Callable[[str], Awaitable[None]],
    nursery: trio.Nursery,
    *,
    at_once: int,
) -> AsyncGenerator[InitialiseEvent, None]:
    """Initialises the shards, `at_once` side by side (0: all), and tells how it goes.

    The work is done in `nursery`; it ends when the iterator is closed, but for what others wait for as well.
    """
    sending, receiving = trio.open_memory_channel[InitialiseEvent](UNREAD)
    scope = trio.CancelScope()
    nursery.start_soon(_run, keys, initialise, sending, at_once, scope)
    try:
        async for event in receiving:
            yield event
    finally:
        scope.cancel()  # first, or whoever is about to tell something finds the channel broken
        receiving.close()


async def _run(
    keys: Sequence[str],
    initialise: Callable[[str], Awaitable[None]],
    sending: trio.MemorySendChannel[InitialiseEvent],
    at_once: int,
    scope: trio.CancelScope,
) -> None:
    limiter = trio.CapacityLimiter(at_once or math.inf)
    done = 0

    async def tell(event: InitialiseEvent) -> None:
        try:
            await sending.send(event)
        except trio.BrokenResourceError:  # nobody reads any more
            scope.cancel()

    async def one(number: int, key: str) -> None:
        nonlocal done
        error = ""
        try:
            await initialise(key)
        except ShardError as failed:
            error = str(failed)
        finally:
            limiter.release_on_behalf_of(number)
        done += 1
        await tell(InitialiseEvent(key, "end", not error, error, len(keys), done))

    with scope:
        async with sending, trio.open_nursery() as nursery:
            for number, key in enumerate(keys, 1):
                await limiter.acquire_on_behalf_of(number)
                await tell(InitialiseEvent(key, "start", False, "", len(keys), number))
                nursery.start_soon(one, number, key)
