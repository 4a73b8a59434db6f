"""Putting the dagstore together from its parts, for as long as it is used."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from agent.catalogue import Store
from agent.dagstore.breaker import Limits
from agent.dagstore.dagstore import Dagstore
from agent.dagstore.events import Hub
from agent.dagstore.indexer import Workers, Working
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.origins import Origins
from agent.dagstore.remotes import settings_of
from agent.dagstore.settings import DagstoreConfig
from agent.dagstore.transients import open_transients


@asynccontextmanager
async def open_dagstore(
    *,
    store: Store,
    workers: Working,
    hub: Hub,
    index_directory: Path,
    transients_directory: Path | None = None,
    settings: DagstoreConfig | None = None,
    environment: Environment | None = None,
    chance: Callable[[], float] = random.random,
    inverted_directory: Path | None = None,
    inverting: Workers | None = None,
) -> AsyncIterator[Dagstore]:
    """The dagstore over what `store` holds, for the time of the block; `chance` spreads retries. Directories that are
    not named are beside that of indices.

    `inverting` works for the inverted index: others than `workers`, since these may all be busy for hours.
    """
    settings, environment = settings or DagstoreConfig(), environment or Environment()
    origins = Origins(Limits(settings.breaker_failures, settings.breaker_pause_s))
    directory = transients_directory or index_directory.with_name("transients")
    directory.mkdir(exist_ok=True)

    def in_use(key: str) -> bool:
        return not dagstore.idle(key)

    async with (
        open_transients(
            directory, environment, settings_of(settings), visits=origins, in_use=in_use
        ) as transients,
        trio.open_nursery() as nursery,
    ):
        means = (settings, environment, transients, origins, chance)
        inverted = (inverted_directory or index_directory.with_name("inverted"), inverting or workers)
        dagstore = Dagstore(nursery, store, workers, hub, index_directory, *means, *inverted)
        await dagstore.start()
        yield dagstore
        dagstore.stop()
        nursery.cancel_scope.cancel()
