"""Which blocks of a CAR are reached from its roots, which links lead nowhere, and which blocks nothing leads to.

Every block is looked at once, depth first, and kept in mind by two bits: memory grows with the CAR by a quarter of a
byte a block, and with the width of its nodes.  Blocks without links (raw leaves) are not read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from carlib import indexing
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.errors import CarError
from carlib.links import NAMES, scanner_of

MAX_NAMED: Final = 100
"""Dangling links and unreachable blocks kept by name; the rest are only counted."""
_TELL_EVERY: Final = 4096


@dataclass(frozen=True, slots=True)
class Dangling:
    """A link to a block that is not here; ``parent`` is the block it stands in, None for a root of the header."""

    parent: Cid | None
    target: Cid


@dataclass(slots=True)
class Reach:
    """What was found.  Blocks of one multihash are one; identity CIDs are not counted, but followed."""

    reachable: int = 0
    unreachable: int = 0
    dangling: int = 0
    """Links, each time one is met."""
    unreadable: int = 0
    """Blocks that are reached and corrupt, or not what their codec says: nothing below them is reached by them."""
    named_dangling: list[Dangling] = field(default_factory=list)
    named_unreachable: list[Cid] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether every link leads to a block."""
        return not self.dangling and not self.unreadable


def reach(path: Path, *, progress: Callable[[int, int], None] | None = None) -> Reach:
    """Follow every link of the CAR at ``path``, which may be damaged: then as far as it is whole.

    ``progress`` is told blocks done and blocks there are.  Raises CarError where it cannot be read at all, OSError.
    """
    with tempfile.TemporaryDirectory(prefix="carfs-") as folder:
        index = Path(folder) / "index"
        # Our own index, never the CAR's: ordinals must stay the same from the first to the last look-up.
        indexing.build(path, index, salvage=True, durably=False)
        with ReadOnlyBlockstore.open(path, index=index, salvage=True) as blocks:
            return reach_in(blocks, progress=progress)


def reach_in(blocks: ReadOnlyBlockstore, *, progress: Callable[[int, int], None] | None = None) -> Reach:
    """Likewise for blocks with a whole index of our own."""
    walk = _Walk(blocks, progress)
    walk.run()
    walk.count_unreachable()
    return walk.found


class _Walk:
    def __init__(self, blocks: ReadOnlyBlockstore, progress: Callable[[int, int], None] | None) -> None:
        self.found = Reach()
        self._blocks = blocks
        self._progress = progress
        self._total = len(blocks.index)
        self._reached = _Bits(self._total)
        self._followed = _Bits(self._total)

    def run(self) -> None:
        stack: list[tuple[Cid | None, Iterator[Cid]]] = [(None, iter(self._blocks.roots))]
        while stack:
            parent, links = stack[-1]
            cid = next(links, None)
            if cid is None:
                stack.pop()
            elif cid.codec not in NAMES and self._enter(parent, cid):
                stack.append((cid, iter(self._links(cid))))

    def count_unreachable(self) -> None:
        """Of several sections of one multihash the first is looked at."""
        try:
            for cid, _ in self._blocks.cids():
                location = None if cid.is_identity else self._blocks.locate(cid)
                if location is not None and self._reached.add(location.ordinal):
                    self.found.unreachable += 1
                    if self.found.unreachable <= MAX_NAMED:
                        self.found.named_unreachable.append(cid)
        except CarError:
            pass  # the CAR is damaged from here on, which is for others to tell

    def _enter(self, parent: Cid | None, cid: Cid) -> bool:
        """Whether the links of ``cid`` are to be followed now."""
        if cid.is_identity:
            return True
        location = self._blocks.locate(cid)
        if location is None:
            self.found.dangling += 1
            if self.found.dangling <= MAX_NAMED:
                self.found.named_dangling.append(Dangling(parent, cid))
            return False
        if self._reached.add(location.ordinal):
            self.found.reachable += 1
            if self._progress is not None and self.found.reachable % _TELL_EVERY == 0:
                self._progress(self.found.reachable, self._total)
        # The same bytes may be reached as raw first and as a node later.
        return scanner_of(cid.codec) is not None and self._followed.add(location.ordinal)

    def _links(self, cid: Cid) -> list[Cid]:
        scanner = scanner_of(cid.codec)
        try:
            return [] if scanner is None else list(scanner(self._blocks.get(cid)))
        except CarError:
            self.found.unreadable += 1
            return []


class _Bits:
    """A set of ordinals."""

    def __init__(self, count: int) -> None:
        self._bits = bytearray((count >> 3) + 1)

    def add(self, ordinal: int) -> bool:
        """Whether it is new."""
        place, bit = ordinal >> 3, 1 << (ordinal & 7)
        if self._bits[place] & bit:
            return False
        self._bits[place] |= bit
        return True
