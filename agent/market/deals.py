"""The deals of a provider: proposed, waited for, given data, ended; what is done about each is `running.py`'s.

Decisions are `transitions.py`'s. The catalogue is written before memory changes. Pieces are counted: one that
several deals are about is packed once, and given up when the last of them has ended.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import trio

from agent.dagstore.failures import STOPPING, ErrorClass, ShardError
from agent.dagstore.records import now_text
from agent.imports.names import next_id
from agent.market.packing import Sector
from agent.market.records import DealRecord, DealRow, Placed, Proposal
from agent.market.table import DealStore
from agent.market.transitions import ENDED, HANDED_OFF, RESTING, Event, State, step
from carlib.cid import Cid

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Deal:
    """One of them, in memory."""

    row: DealRow
    changed: trio.Event = field(default_factory=trio.Event)  # replaced at each change
    scope: trio.CancelScope | None = None  # of what is being done about it


class Deals:
    """Everything raises ShardError."""

    def __init__(self, store: DealStore, clock_ns: Callable[[], int], *, accepts: bool) -> None:
        self._store = store
        self._clock_ns = clock_ns
        self._accepts = accepts
        self._all: dict[int, Deal] = {}
        self._of_piece: defaultdict[bytes, tuple[int, ...]] = defaultdict(tuple)
        self._last = 0
        self._stopping = False
        self.run: Callable[[Deal], None] = lambda _deal: None
        """Goes on with one, in the background; set by `open_deals`."""
        for row in store.rows():
            self._take(Deal(row))

    # What callers ask for

    def propose(self, proposal: Proposal, client: str) -> int:
        """Takes a deal in; gives its number. The same proposal again, by its UUID, is the same deal."""
        self._refuse_if_stopping()
        if not self._accepts:
            raise ShardError(ErrorClass.DENIED, "no deals are taken here (market.accept is false)")
        proposal = proposal.checked()
        end = proposal.end()
        if end is not None and end <= datetime.now(UTC):
            raise ShardError(ErrorClass.INVALID, f"the deal would have ended at {proposal.ends_at} already")
        if proposal.uuid:
            for deal in self._all.values():
                if deal.row.proposal.uuid == proposal.uuid:
                    if deal.row.proposal != proposal:
                        message = (
                            f"deal {deal.row.id} has the UUID {proposal.uuid} already, and is another one"
                        )
                        raise ShardError(ErrorClass.EXISTS, message)
                    return deal.row.id
        number = next_id(self._clock_ns(), self._last)
        now = now_text()
        row = DealRow(number, proposal, client, State.VALIDATING, now, now)
        self._store.put(row)
        self.run(self._take(Deal(row)))
        return number

    def give(self, number: int, car: Path) -> None:
        """Brings the CAR of an offline deal, which is read where it is, and stays."""
        deal = self._one(number)
        if deal.row.state is not State.WAITING_FOR_DATA:
            message = f"deal {number} waits for no data: it is in state {deal.row.state.value}"
            raise ShardError(ErrorClass.BUSY, message)
        self.apply(deal, Event.GIVEN, car=str(car))
        self.run(deal)

    def retry(self, number: int) -> None:
        """Begins one that has failed once more."""
        deal = self._one(number)
        if deal.row.state is State.ERROR and not deal.row.released:
            raise ShardError(ErrorClass.BUSY, f"deal {number} is being given up still; try again in a moment")
        if not self.apply(deal, Event.AGAIN, error="", error_class=None):
            raise ShardError(ErrorClass.BUSY, f"deal {number} has not failed: it is {deal.row.state.value}")
        self.run(deal)

    def end(self, number: int) -> None:
        """Ends one, whatever its state; its piece is given up if it was the last."""
        deal = self._one(number)
        if not self.apply(deal, Event.EXPIRE, released=False):
            raise ShardError(ErrorClass.BUSY, f"deal {number} has ended already: {deal.row.state.value}")
        if deal.scope is not None:
            deal.scope.cancel()
        else:
            self.run(deal)

    def move(self, number: int, placed: Placed) -> None:
        """Its piece was unsealed, and lies there now."""
        deal = self._one(number)
        if deal.row.placed != placed:
            self.change(deal, placed=placed)

    async def wait(self, number: int) -> DealRecord:
        """Returns when nothing more is done about it without somebody; raises why it has failed, if so."""
        deal = self._one(number)
        while deal.row.state not in RESTING:
            await deal.changed.wait()
            if self._stopping:
                raise ShardError(STOPPING.error_class, STOPPING.message)
        row = deal.row
        if row.state in (State.ERROR, State.REJECTED):
            raise ShardError(row.error_class or ErrorClass.BUG, f"deal {number}: {row.error}")
        return self.record(number)

    # What is known

    def numbers(self) -> list[int]:
        return sorted(self._all)

    def record(self, number: int) -> DealRecord:
        return DealRecord.of(self._one(number).row)

    def row(self, number: int) -> DealRow:
        return self._one(number).row

    def of_piece(self, piece: Cid) -> Sequence[DealRow]:
        """Those about a piece, given by its v1 CID; from any thread."""
        return [deal.row for number in self._of_piece.get(piece.raw, ()) if (deal := self._all.get(number))]

    # For the parts beside this one

    def all(self) -> list[Deal]:
        return list(self._all.values())

    def holders(self, row: DealRow) -> list[DealRow]:
        """The other deals that have this one's piece in a sector."""
        rows = self.of_piece(row.piece)
        return [
            one for one in rows if one.id != row.id and one.state in HANDED_OFF and one.placed is not None
        ]

    def in_sector(self, sector: int) -> list[DealRow]:
        """The deals whose pieces are in it."""
        rows = (deal.row for deal in self._all.values())
        return [
            row
            for row in rows
            if row.state in HANDED_OFF and row.placed is not None and row.placed.sector == sector
        ]

    def apply(self, deal: Deal, event: Event, sector: Sector | None = None, **changes: Any) -> bool:
        """Moves it on, if that is anything to its state; whether it was. Any: as the field of the row is."""
        state = step(deal.row.state, event)
        if state is None:
            return False
        before = deal.row.state
        self.change(deal, sector, state=state, **changes)
        logger.info("deal %d: %s -> %s (%s)", deal.row.id, before.value, state.value, event.value)
        return True

    def change(self, deal: Deal, sector: Sector | None = None, **changes: Any) -> None:
        row = msgspec.structs.replace(deal.row, updated=now_text(), **changes)
        self._store.put(row, sector)
        deal.row = row
        deal.changed.set()
        deal.changed = trio.Event()

    def stop(self) -> None:
        """Answers all that wait."""
        self._stopping = True
        for deal in self._all.values():
            deal.changed.set()

    def _take(self, deal: Deal) -> Deal:
        number, piece = deal.row.id, deal.row.piece.raw
        self._all[number] = deal
        self._of_piece[piece] = (*self._of_piece[piece], number)
        self._last = max(self._last, number)
        return deal

    def _refuse_if_stopping(self) -> None:
        if self._stopping:
            raise ShardError(STOPPING.error_class, STOPPING.message)

    def _one(self, number: int) -> Deal:
        deal = self._all.get(number)
        if deal is None:
            raise ShardError(ErrorClass.NOT_FOUND, f"there is no deal {number}", key=str(number))
        return deal


def is_unended(row: DealRow) -> bool:
    """Whether something is left to do about it, now or at its end."""
    return row.state not in ENDED or not row.released
