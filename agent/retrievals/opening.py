"""Putting the retrievals together from their parts, for as long as they are used."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from agent.dagstore.events import Hub
from agent.dagstore.failures import ShardError, class_of_os_error
from agent.local.blocks import LocalBlocks
from agent.network.link import Link
from agent.retrievals.offers import Elsewhere
from agent.retrievals.retrievals import Retrieval, Retrievals
from agent.retrievals.running import Running
from agent.retrievals.settings import RetrievalConfig
from agent.retrievals.table import RetrievalStore
from agent.retrievals.transitions import ENDED, Event
from agent.transfer.sources.means import Means
from agent.transfer.sources.naming import IPFS

logger = logging.getLogger(__name__)

_OURS = re.compile(r"([0-9]{1,20})\.(car|[0-9]{1,6}\.part)")


@asynccontextmanager
async def open_retrievals(
    *,
    store: RetrievalStore,
    hub: Hub,
    directory: Path,
    means: Means,
    link: Link,
    local: LocalBlocks | None = None,
    config: RetrievalConfig | None = None,
    clock_ns: Callable[[], int] = time.time_ns,
) -> AsyncIterator[Retrievals]:
    """The retrievals that `store` holds, for the time of the block; what was under way goes on by itself."""
    config = config or RetrievalConfig()
    directory.mkdir(parents=True, exist_ok=True)
    retrievals = Retrievals(store, hub, directory, clock_ns)
    retrievals.on_demand = config.on_demand
    retrievals.elsewhere = Elsewhere(config, means)
    retrievals.to = IPFS if means.ipfs.use_for_retrieval else ""
    limiter = trio.CapacityLimiter(config.max_concurrent)
    running = Running(retrievals, config, means, link, local, limiter)
    async with trio.open_nursery() as nursery:

        def run(one: Retrieval) -> None:
            nursery.start_soon(running.run, one)

        retrievals.run = run
        unended = []
        for row in store.rows():
            one = retrievals.take_over(row)
            if row.state in ENDED:
                one.ended.set()
            else:
                unended.append(one)
        await _sweep(directory, set(retrievals.numbers()))
        for one in unended:
            retrievals.apply(one, Event.RESTART)
            run(one)
        yield retrievals
        retrievals.stop()
        nursery.cancel_scope.cancel()


async def _sweep(directory: Path, known: set[int]) -> None:
    """Removes files of our names that belong to nothing."""

    def sweep() -> int:
        count = 0
        for path in sorted(directory.iterdir()):
            match = _OURS.fullmatch(path.name)
            if match is not None and int(match[1]) not in known:
                path.unlink()
                count += 1
        return count

    try:
        swept = await trio.to_thread.run_sync(sweep)
    except OSError as error:
        raise ShardError(class_of_os_error(error), f"{error.filename}: {error.strerror}") from error
    if swept:
        logger.info("removed %d files of retrievals that are no more", swept)
