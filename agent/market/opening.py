"""Putting the deals together from their parts, for as long as they are used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import trio

from agent.dagstore.dagstore import Dagstore
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.indexer import Workers
from agent.export.exporting import Exporter
from agent.market.deals import Deal, Deals, is_unended
from agent.market.running import Running
from agent.market.sealing import CommandSealing, LocalSealing, Sealing
from agent.market.settings import MarketConfig
from agent.market.table import DealStore
from agent.market.transitions import ENDED
from agent.retrievals.retrievals import Retrievals

_LOOK_S = 15.0  # between two looks for deals that have come to their end


@asynccontextmanager
async def open_deals(
    deals: Deals,
    *,
    store: DealStore,
    config: MarketConfig,
    dagstore: Dagstore,
    retrievals: Retrievals,
    exporter: Exporter,
    workers: Workers,
    staging: Path,
    home: Path,
) -> AsyncIterator[Sealing]:
    """Goes on with what is under way, for the time of the block; raises ShardError(invalid)."""
    if config.sector_size & config.sector_size - 1:
        raise ShardError(ErrorClass.INVALID, f"market.sector_size {config.sector_size} is no power of two")
    sealing: Sealing
    if config.sealing_command:
        sealing = CommandSealing(config)
    else:
        sealing = LocalSealing(store, workers, home / config.sectors, config.sector_size)
    running = Running(
        deals, config, dagstore, retrievals, exporter, workers, sealing, staging,
        trio.CapacityLimiter(config.max_concurrent),
    )  # fmt: skip
    async with trio.open_nursery() as nursery:

        def run(deal: Deal) -> None:
            nursery.start_soon(running.run, deal)

        deals.run = run
        for deal in deals.all():
            if is_unended(deal.row):
                run(deal)
        nursery.start_soon(_end_in_time, deals)
        yield sealing
        deals.stop()
        nursery.cancel_scope.cancel()


async def _end_in_time(deals: Deals) -> None:
    while True:
        now = datetime.now(UTC)
        for deal in deals.all():
            end = deal.row.proposal.end()
            if end is not None and end <= now and deal.row.state not in ENDED:
                deals.end(deal.row.id)
        await trio.sleep(_LOOK_S)
