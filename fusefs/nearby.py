"""Sizes of the raw leaves of one listing, most of them without a look-up in the index.

Whoever writes a CAR writes the files of a directory one after the other, so behind the section of one entry
stand those of the next.  They are read through in the order of the file (0.4 µs each, measured, where a look-
up costs 25) and remembered for as long as that finds anything; where blocks lie at random it is soon given
up.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.errors import BlockNotFound, CarError
from carlib.section import Sections

_STRIDE: Final = 1024
"""Sections read through behind one that was looked up."""
_LARGE_BYTES: Final = 64 * 1024
"""Behind a section of this size the next one is another read away: a look-up is as good."""
_PATIENCE: Final = 4


class Nearby:
    """Sizes by binary CID, for one listing; not for several threads at once."""

    def __init__(self, blocks: ReadOnlyBlockstore) -> None:
        self._blocks = blocks
        self._sizes: dict[bytes, int] = {}
        self._found = 0
        self._futile = 0

    def size(self, cid: Cid) -> int:
        """Bytes of the block, as `Blocks.size`; raises BlockNotFound, CarError, OSError."""
        size = self._sizes.get(cid.raw)
        if size is not None:
            self._found += 1
            return size
        location = self._blocks.locate(cid)
        if location is None:
            raise BlockNotFound(cid)
        if location.ordinal >= 0 and location.size < _LARGE_BYTES and self._futile < _PATIENCE:
            self._futile = 0 if self._found or not self._sizes else self._futile + 1
            self._read_through(location.data_offset + location.size)
        return location.size

    def _read_through(self, start: int) -> None:
        container = self._blocks.container
        self._found = 0
        self._sizes = {}
        sections = Sections(self._blocks.source, start, container.data_end, zero_is_end=True)
        try:
            for raw, _, _, size in islice(sections, _STRIDE):
                self._sizes[raw] = size
                if size > _LARGE_BYTES:
                    return
        except CarError:
            return  # damage behind is not this entry's
