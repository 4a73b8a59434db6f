"""Where a piece goes: into the first unsealed sector that has room for it at a multiple of its size. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from carlib.piece.sector import Placement


class Sector(msgspec.Struct, frozen=True):
    """One unsealed sector; sizes in padded bytes."""

    number: int
    size: int
    used: int  # up to the end of its last piece


def room(sectors: Sequence[Sector], piece_size: int, sector_size: int) -> tuple[Sector, Placement]:
    """The sector as it is with the piece in it, maybe a new one, and where the piece lies.

    `piece_size` is a piece's, and not more than `sector_size`.
    """
    for sector in sectors:
        offset = -(-sector.used // piece_size) * piece_size
        if offset + piece_size <= sector.size:
            return _with(sector, Placement(offset, piece_size))
    number = max((sector.number for sector in sectors), default=0) + 1
    return _with(Sector(number, sector_size, 0), Placement(0, piece_size))


def _with(sector: Sector, placement: Placement) -> tuple[Sector, Placement]:
    return Sector(sector.number, sector.size, placement.end), placement
