"""Unsealed sectors: where each piece lies in one, and its payload read out of the padded file.

Pieces stand in the order in which they were added, each at the next multiple of its own padded size, zeros between.
Source: Filecoin specification, Sector; Lotus, ``GetRequiredPadding``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from carlib.errors import Malformed
from carlib.piece.fr32 import View, unpadded_view
from carlib.piece.sizes import PADDED_GROUP, UNPADDED_GROUP, height_of, unpadded_at
from carlib.source import ByteSource


@dataclass(frozen=True, slots=True)
class Placement:
    """A piece's place, in padded bytes from the start of the sector (or of the bigger piece)."""

    offset: int
    size: int

    @classmethod
    def parse(cls, offset: int, size: int) -> Placement:
        """A placement that may be; Malformed unless ``size`` is a piece size and ``offset`` a multiple of it."""
        height_of(size)
        if offset < 0 or offset % size:
            raise Malformed(f"a piece of {size} padded bytes cannot lie at {offset}")
        return cls(offset, size)

    @property
    def end(self) -> int:
        return self.offset + self.size

    @property
    def unpadded_offset(self) -> int:
        return self.offset // PADDED_GROUP * UNPADDED_GROUP

    @property
    def unpadded_size(self) -> int:
        return unpadded_at(height_of(self.size))


def place(padded_sizes: Iterable[int], padded: int | None = None) -> tuple[Placement, ...]:
    """Where pieces of these sizes lie; Malformed for a size that is none, or if they do not fit into ``padded``."""
    placements: list[Placement] = []
    end = 0
    for size in padded_sizes:
        height_of(size)
        placements.append(Placement(-(-end // size) * size, size))
        end = placements[-1].end
    if padded is not None and end > padded:
        raise Malformed(f"the pieces need {end} padded bytes, there are {padded}")
    return tuple(placements)


def open_piece(sector: ByteSource, place: Placement, payload_size: int | None = None) -> View:
    """The payload of a piece in an unsealed sector, as a source of bytes; without a size, all of the unpadded piece.

    Malformed where the payload is bigger than the piece or the piece lies outside the sector.
    """
    size = place.unpadded_size if payload_size is None else payload_size
    if not 0 <= size <= place.unpadded_size:
        raise Malformed(f"a payload of {size} bytes is not in a piece of {place.size}", source=sector.name)
    if place.end > sector.size:
        raise Malformed(
            f"the piece ends at {place.end}, the sector at {sector.size}",
            source=sector.name,
            offset=place.offset,
        )
    return unpadded_view(sector, place.offset, size)
