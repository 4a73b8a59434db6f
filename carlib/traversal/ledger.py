"""What one traversal has seen, spent and missed; the only part of it that asks the blockstore."""

from __future__ import annotations

from typing import NamedTuple

from carlib.blockstore import Blocks
from carlib.cid import Cid
from carlib.errors import BlockNotFound
from carlib.traversal.rules import Budget, Rules


class Visit(NamedTuple):
    """A block reached; ``depth`` links from the root, ``data`` None where only its size was asked for."""

    cid: Cid
    size: int
    depth: int
    data: bytes | None


class Ledger:
    """One traversal's books.

    ``missing`` are the CIDs that were not here, each once, in the order they were met.  ``entered`` are binary CIDs
    whose whole DAGs are done or under way, and ``shown`` the blocks given so far.
    """

    __slots__ = ("_data", "_missed", "_shown", "blocks", "budget", "entered", "missing", "rules")

    def __init__(self, blocks: Blocks, rules: Rules, *, data: bool = True) -> None:
        """``data`` False: leaves are asked for their sizes and not read."""
        self.rules = rules
        self.budget = Budget(rules.limits)
        self.missing: list[Cid] = []
        self.entered: set[bytes] = set()
        self.blocks = blocks
        self._data = data
        self._missed: set[bytes] = set()
        self._shown: set[bytes] = set()

    def enter(self, cid: Cid) -> bool:
        """Whether the DAG below ``cid`` is to be walked: always with duplicates, else the first time."""
        if self.rules.duplicates:
            return True
        if cid.raw in self.entered:
            return False
        self.entered.add(cid.raw)
        return True

    def take(self, cid: Cid, depth: int, *, inner: bool = True, required: bool = False) -> Visit | None:
        """The block, with its data if it is an ``inner`` node or all data is asked for; None where it is missing.

        Raises BlockNotFound where missing blocks are not skipped, or this one is ``required``; LimitExceeded.
        """
        self.budget.check_depth(depth)
        try:
            if inner or self._data:
                data = cid.digest if cid.is_identity else self.blocks.get(cid)
                visit = Visit(cid, len(data), depth, data)
            else:
                size = len(cid.digest) if cid.is_identity else self.blocks.size(cid)
                visit = Visit(cid, size, depth, None)
        except BlockNotFound:
            if required or not self.rules.skip_missing:
                raise
            if cid.raw not in self._missed:
                self._missed.add(cid.raw)
                self.missing.append(cid)
            return None
        self.budget.spend(visit.size, depth)
        return visit

    def show(self, cid: Cid) -> bool:
        """Whether the block of ``cid`` is to be given now; asked once for each visit."""
        if cid.is_identity and not self.rules.identity:
            return False
        if self.rules.duplicates:
            return True
        key = cid.raw if self.rules.whole_cids else cid.multihash
        if key in self._shown:
            return False
        self._shown.add(key)
        return True
