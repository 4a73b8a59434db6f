"""Putting the imports together from their parts, for as long as they are used."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from agent.dagstore.events import Hub
from agent.dagstore.failures import ShardError, class_of_os_error
from agent.dagstore.indexer import Workers
from agent.imports import sanity
from agent.imports.imports import Imports
from agent.imports.jobs import Jobs
from agent.imports.looking import Looks
from agent.imports.places import Places
from agent.imports.settings import ImportsConfig
from agent.imports.table import ImportStore
from agent.imports.transitions import ImportState, Restarted

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Importing:
    """The imports, looks at them, and what is done with one at a time."""

    imports: Imports
    looks: Looks
    jobs: Jobs


@asynccontextmanager
async def open_imports(
    *,
    store: ImportStore,
    workers: Workers,
    hub: Hub,
    directory: Path,
    staging: Path,
    settings: ImportsConfig | None = None,
    clock_ns: Callable[[], int] = time.time_ns,
) -> AsyncIterator[Importing]:
    """The imports that `store` holds, for the time of the block.

    What a kill has cut short is begun anew, or swept away where somebody waited for it, who knows. The check of those
    that were there goes on in the background.
    """
    settings = settings or ImportsConfig()
    places = Places(directory, staging)
    for folder in (directory, staging):
        folder.mkdir(parents=True, exist_ok=True)
    async with trio.open_nursery() as nursery:
        imports = Imports(nursery, store, workers, hub, places, settings, clock_ns)
        looks = Looks(nursery, imports)
        await _start(imports, store)
        nursery.start_soon(_watch, imports, looks)
        yield Importing(imports, looks, Jobs(imports, looks))
        imports.stop()
        nursery.cancel_scope.cancel()


async def _start(imports: Imports, store: ImportStore) -> None:
    try:
        numbers = store.numbers()
    except ShardError as error:
        logger.warning("failed to enumerate imports on initialization: %s", error)
        return
    damaged = set()
    for number in numbers:
        try:
            row = store.row(number)
        except ShardError:  # the check says so
            damaged.add(number)
            imports.take_over_damaged(number)
            continue
        if row is not None:
            imports.take_over(row)
    made = set(imports.numbers())
    interrupted = {number for number in made if _is_importing(imports, number)}
    for number in interrupted:
        imports.apply(number, Restarted())
    resumed = {number for number in interrupted if imports.life(number) is not None}
    known = (made - interrupted) | resumed | damaged
    try:
        swept = await trio.to_thread.run_sync(lambda: imports.places.sweep(known, staged=resumed))
    except OSError as error:
        raise ShardError(class_of_os_error(error), f"{error.filename}: {error.strerror}") from error
    if swept:
        logger.info("removed what was left of imports that were cut short: %d files or folders", len(swept))


def _is_importing(imports: Imports, number: int) -> bool:
    life = imports.life(number)
    return life is not None and life.state is ImportState.IMPORTING


async def _watch(imports: Imports, looks: Looks) -> None:
    await sanity.check(imports, looks)
    await looks.forever()
