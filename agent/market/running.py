"""What is done about one deal, state by state, until it rests; and giving up what it had once it has ended."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import trio

from agent.dagstore.dagstore import Dagstore
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.indexer import Workers
from agent.export.exporting import Exporter
from agent.export.orders import Order
from agent.market.deals import Deal, Deals
from agent.market.packing import Sector
from agent.market.records import DealRow, Placed
from agent.market.sealing import Sealing
from agent.market.settings import MarketConfig
from agent.market.transitions import HANDED_OFF, RESTING, Event, State
from agent.retrievals.records import Wanted
from agent.retrievals.retrievals import Retrievals
from agent.scheduler.tasks import DEAL_PRIORITY
from agent.workers import WorkerFailed
from carlib.cid import Cid

logger = logging.getLogger(__name__)

RELEASE_AGAIN_S = 5.0  # a shard that is read cannot be destroyed


@dataclass(frozen=True, slots=True)
class Running:
    """What it takes to run them."""

    deals: Deals
    config: MarketConfig
    dagstore: Dagstore
    retrievals: Retrievals
    exporter: Exporter
    workers: Workers
    sealing: Sealing
    staging: Path
    limiter: trio.CapacityLimiter
    _steps: Mapping[State, Callable[[Deal], Awaitable[None]]] = field(init=False)

    def __post_init__(self) -> None:
        steps = {
            State.VALIDATING: self._validate,
            State.TRANSFERRING: self._transfer,
            State.VERIFY_DATA: self._verify,
            State.STAGED: self._pack,
            State.AWAITING_PRECOMMIT: self._seal,
            State.SEALING: self._seal,
            State.FINALIZING: self._seal,
        }
        object.__setattr__(self, "_steps", steps)

    async def run(self, deal: Deal) -> None:
        """From where it is to where it rests; never raises."""
        if deal.scope is not None:
            return
        with trio.CancelScope() as deal.scope:
            try:
                while deal.row.state not in RESTING:
                    await self._steps[deal.row.state](deal)
            except ShardError as error:
                self._fail(deal, error)
            except Exception as error:
                logger.exception("bug in deal %d", deal.row.id)
                self._fail(deal, ShardError(ErrorClass.BUG, repr(error)))
        deal.scope = None
        if not deal.row.released:
            await self._release(deal)

    def _fail(self, deal: Deal, error: ShardError) -> None:
        logger.warning("deal %d failed: %s", deal.row.id, error)
        try:
            self.deals.apply(
                deal, Event.FAIL, error=str(error), error_class=error.error_class, released=False
            )
        except ShardError as failure:  # the catalogue is full, too: it is tried again after a restart
            logger.error("deal %d: %s", deal.row.id, failure)

    async def _validate(self, deal: Deal) -> None:
        proposal, limit = deal.row.proposal, self.config.sector_size
        if proposal.piece_size > limit and not self.config.sealing_command:
            message = f"a piece of {proposal.piece_size} padded bytes does not go into sectors of {limit}"
            self.deals.apply(deal, Event.REJECT, error=message, error_class=ErrorClass.INVALID)
            return
        await trio.lowlevel.checkpoint()
        self.deals.apply(deal, Event.ACCEPT if proposal.source else Event.WAIT)

    async def _transfer(self, deal: Deal) -> None:
        """By a retrieval, which goes on with what is there of it, whatever happened."""
        async with self.limiter:
            proposal = deal.row.proposal
            number = self.retrievals.start(Wanted(proposal.root, to=""), (proposal.source,))
            await self.retrievals.wait(number)
            self.deals.apply(deal, Event.ARRIVED)

    async def _verify(self, deal: Deal) -> None:
        """Root, blocks, piece CID and size: of the CAR that was brought as it is, of what was fetched in the order of a
        walk of the DAG, which is that of the CAR that the client has computed the piece of."""
        row, proposal = deal.row, deal.row.proposal
        async with self.limiter:
            car = Path(row.car) if row.car else self.staging / f"deal-{row.id}.car"
            if not row.car:
                order = Order(Cid.parse(proposal.root), is_car=True)
                await self.exporter.to_file(order, car, replacing=True)
            try:
                size = (await trio.to_thread.run_sync(car.stat)).st_size
                found = await self.workers.run(
                    "commp",
                    {"path": str(car)},
                    subject=f"deal {row.id}",
                    size_bytes=size,
                    priority=DEAL_PRIORITY,
                )
            except OSError as error:
                raise ShardError(ErrorClass.GONE, f"{car}: {error.strerror}") from error
            except WorkerFailed as error:
                raise ShardError(error.error_class, str(error)) from error
            if found["padded"] > proposal.piece_size:
                message = (
                    f"the data make a piece of {found['padded']} padded bytes, not {proposal.piece_size}"
                )
                raise ShardError(ErrorClass.CORRUPT, message)
            if found["padded"] == proposal.piece_size and found["root"] != proposal.piece_cid:
                message = f"the data are the piece {found['root']}, not {proposal.piece_cid}"
                raise ShardError(ErrorClass.CORRUPT, message)
            self.deals.apply(deal, Event.VERIFIED, car=str(car))

    async def _pack(self, deal: Deal) -> None:
        """Into a sector, unless the piece is in one already for another deal."""
        row = deal.row
        held = next(iter(self.deals.holders(row)), None)
        if held is not None:
            self.deals.apply(deal, Event.PACKED, placed=held.placed, payload_size=held.payload_size)
            await trio.lowlevel.checkpoint()
            return

        def packed(placed: Placed, payload_size: int, sector: Sector | None) -> None:
            self.deals.apply(deal, Event.PACKED, sector, placed=placed, payload_size=payload_size)

        async with self.limiter:
            await self.sealing.add_piece(row, packed)

    async def _seal(self, deal: Deal) -> None:
        """A shard of the piece from here on; then as far as sealing is, step by step."""
        await self._register(deal.row)
        while deal.row.state in HANDED_OFF and deal.row.state is not State.ACTIVE:
            event = await self.sealing.progress(deal.row)
            if event is None:
                await trio.sleep(self.config.sealing_poll_s)
            else:
                self.deals.apply(deal, event)
        if not self.config.keep_staged:
            await self._unstage(deal)

    async def _register(self, row: DealRow) -> None:
        key = row.proposal.piece_cid
        # Only what stays is a shard's local copy: without it, the shard would be indexed anew.
        transient = row.car if self.config.keep_staged and self._is_ours(row) else ""
        try:
            await self.dagstore.register(key, f"lotus://{key}", existing_transient=transient, wait=True)
        except ShardError as error:
            if error.error_class is ErrorClass.EXISTS:
                return
            logger.warning(
                "failed to activate shard: %s", error
            )  # the deal proceeds; the shard can be recovered

    def _is_ours(self, row: DealRow) -> bool:
        return bool(row.car) and Path(row.car).parent == self.staging

    async def _unstage(self, deal: Deal) -> None:
        """The sector has it now: neither the staged CAR nor the retrieval is needed."""
        row = deal.row
        if self._is_ours(row):
            await trio.to_thread.run_sync(lambda: Path(row.car).unlink(missing_ok=True))
            self.deals.change(deal, car="")
        if row.proposal.source:
            try:
                await self.retrievals.remove(self.retrievals.find(row.proposal.root))
            except ShardError as error:  # somebody reads it, or has dropped it
                logger.debug("deal %d: %s", row.id, error)

    async def _release(self, deal: Deal) -> None:
        """Gives up what an ended deal had, and the piece if no other deal is about it."""
        row = deal.row
        while not self.deals.holders(row):
            try:
                await self.dagstore.destroy(row.proposal.piece_cid)
            except ShardError as error:
                if error.error_class is ErrorClass.BUSY:
                    logger.debug("deal %d: %s", row.id, error)
                    await trio.sleep(RELEASE_AGAIN_S)
                    continue
                if error.error_class is not ErrorClass.NOT_FOUND:
                    logger.warning("deal %d: %s", row.id, error)
            break
        try:
            if row.placed is not None and not self.deals.holders(row):
                await self.sealing.release(row.placed, is_last=not self.deals.in_sector(row.placed.sector))
            if deal.row.state is State.EXPIRED:  # else somebody may try once more, with what has come
                await self._unstage(deal)
        except ShardError as error:
            logger.warning("deal %d: %s", row.id, error)
        self.deals.change(deal, released=True, placed=None)
