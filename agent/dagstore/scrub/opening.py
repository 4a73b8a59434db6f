"""Putting it together: the scrubber, its routine, and what stands in for mounts that are gone."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import trio

from agent.dagstore.events import Hub
from agent.dagstore.indexer import Workers
from agent.dagstore.scrub import progress, repairs
from agent.dagstore.scrub.records import ScrubState
from agent.dagstore.scrub.repairer import Repairer
from agent.dagstore.scrub.schedule import ScrubConfig
from agent.dagstore.scrub.scrubber import Scrubber
from agent.dagstore.scrub.standby import Changeable, Standby
from agent.dagstore.scrub.store import ScrubStore, Shards

logger = logging.getLogger(__name__)


class AllShards(Shards, Changeable, Protocol):
    """What the scrubber and standing in need of the dagstore."""


@asynccontextmanager
async def open_scrubber(
    *,
    shards: AllShards,
    store: ScrubStore,
    workers: Workers,
    hub: Hub,
    repairer: Repairer,
    index_directory: Path,
    config: ScrubConfig,
    clock: Callable[[], float] = time.time,
    chance: Callable[[], float] = random.random,
) -> AsyncIterator[Scrubber]:
    """A scrubber that follows its schedule for the time of the block; what it was at goes on the next time."""
    wanted = [(key, state) for key, state in store.scrubs_with_findings() if state.repairs is not None]
    there = await trio.to_thread.run_sync(_swept, repairer.directory, wanted)
    for key, state in wanted:
        if state.repairs is not None and state.repairs.name not in there:
            logger.warning("shard %s: its repairs are gone, so what they stood in for is bad again", key)
            store.put_scrub(key, progress.lost_repairs(state))
    async with trio.open_nursery() as nursery:
        scrubber = Scrubber(
            nursery, shards=shards, store=store, workers=workers, hub=hub, repairer=repairer,
            index_directory=index_directory, config=config, clock=clock, chance=chance,
        )  # fmt: skip
        standby = Standby(
            shards=shards, store=store, replicas=repairer.replicas, hub=hub, is_on=lambda: config.repair
        )
        nursery.start_soon(scrubber.routine.run)
        nursery.start_soon(standby.run)
        yield scrubber
        nursery.cancel_scope.cancel()


def _swept(directory: Path, wanted: Iterable[tuple[str, ScrubState]]) -> set[str]:
    """The files of repairs that are there, once those that nobody wants are gone."""
    names = {state.repairs.name for _, state in wanted if state.repairs is not None}
    repairs.sweep(directory, names)
    return set(repairs.names(directory))
