"""The piece store: which deals put a piece into which sector, as `lotus:` mounts ask for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.dagstore.mounts.pieces import PiecePlace, PieceStore
from agent.market.records import DealRow
from agent.market.transitions import HANDED_OFF
from carlib.cid import Cid
from carlib.piece.sector import Placement


@dataclass(frozen=True, slots=True)
class DealPieces:
    """A `PieceStore` over the deals, and then over another one."""

    deals: Callable[[Cid], Sequence[DealRow]]  # about a piece, by its v1 CID; from any thread
    others: PieceStore | None = None

    @property
    def name(self) -> str:
        return "the deals" if self.others is None else f"the deals and {self.others.name}"

    def find(self, piece: Cid) -> Sequence[PiecePlace]:
        found: dict[tuple[str, int], PiecePlace] = {}
        for row in self.deals(piece):
            placed = row.placed
            if placed is not None and row.state in HANDED_OFF:
                placement = Placement(placed.offset, placed.size)
                place = PiecePlace(Path(placed.file), placement, row.payload_size)
                found.setdefault((placed.file, placed.offset), place)
        return [*found.values(), *(self.others.find(piece) if self.others is not None else ())]
