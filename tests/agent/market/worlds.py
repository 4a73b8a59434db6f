"""Deals about which nothing is done, for whoever only asks about them."""

from __future__ import annotations

import time

from agent.dagstore.failures import ErrorClass
from agent.market.deals import Deals
from agent.market.packing import Sector
from agent.market.records import DealRow, Placed, Proposal
from agent.market.sealing import Packed
from agent.market.transitions import Event, State

PIECE = "baga6ea4seaqao7s73y24kcutaosvacpdjgfe5pw76ooefnyqw4ynr3d2y6x2mpq"


class MemoryStore:
    """A `DealStore`."""

    def __init__(self, *rows: DealRow) -> None:
        self._rows = {row.id: row for row in rows}
        self._sectors: dict[int, Sector] = {}

    def rows(self) -> list[DealRow]:
        return list(self._rows.values())

    def put(self, row: DealRow, sector: Sector | None = None) -> None:
        self._rows[row.id] = row
        if sector is not None:
            self._sectors[sector.number] = sector

    def sectors(self) -> list[Sector]:
        return [self._sectors[number] for number in sorted(self._sectors)]

    def drop_sector(self, number: int) -> None:
        self._sectors.pop(number, None)


class AllUnsealed:
    """A `Sealing` for which every piece lies where it is said to lie."""

    async def add_piece(self, deal: DealRow, packed: Packed) -> None:
        raise AssertionError("nothing is packed here")

    async def progress(self, deal: DealRow) -> Event | None:
        return None

    async def is_unsealed(self, deal: DealRow) -> bool:
        return deal.placed is not None

    async def unseal(self, deal: DealRow) -> Placed:
        assert deal.placed is not None
        return deal.placed

    async def release(self, placed: Placed, *, is_last: bool) -> None:
        pass


def some_deals(count: int = 3, *, root: str = "bafkqaaa") -> Deals:
    """The first `count` of these: deal 1 is active, 2 waits for data, 3 has failed."""
    at = "2026-11-26T12:00:00.000000Z"
    online = Proposal(root, PIECE, 256, "http://192.0.2.7:8480", "photos")
    offline = Proposal(root, PIECE, 256, "", "photos")
    placed = Placed(1, "/srv/sectors/unsealed/s-t01000-1", 0, 256)
    rows = (
        DealRow(1, online, "laptop", State.ACTIVE, at, at, payload_size=211, placed=placed),
        DealRow(2, offline, "laptop", State.WAITING_FOR_DATA, at, at),
        DealRow(3, online, "laptop", State.ERROR, at, at, "no way", ErrorClass.GONE),
    )
    return Deals(MemoryStore(*rows[:count]), time.time_ns, accepts=True)
