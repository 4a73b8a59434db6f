"""A shard in memory: as little as there can be of it, since there may be a hundred thousand.

What changes with every step is here; all else is in the catalogue, whence it comes in some 20 µs when it is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.indexer import Indexing
from agent.dagstore.lifecycle import INDEXING_STATES, Life
from agent.dagstore.records import ShardRow


class Rows(Protocol):
    """Where rows are: `agent.catalogue.Store`."""

    def row(self, key: str) -> ShardRow | None:
        """One shard; raises ShardError."""


class Shard(msgspec.Struct, eq=False, gc=False):
    """One shard. It is in no cycle of references, so Python's collector need not look at it: at a hundred thousand, it
    would keep the loop from other work for 30 ms each time."""

    key: str
    life: Life
    rows: Rows
    indexing: Indexing | None = None  # while its index is being made
    retry_at_s: float = 0.0  # by trio's clock: not before, if it is Errored and nobody asks for it by name
    fresh_until_s: float = (
        0.0  # likewise: till then its data, if they are elsewhere, are not looked at before use
    )

    @property
    def row(self) -> ShardRow:
        """What the catalogue has of it; raises ShardError: the catalogue's, or not-found."""
        row = self.rows.row(self.key)
        if row is None:
            raise unknown(self.key)
        return row

    def waits_for_index(self, generation: int | None = None) -> bool:
        """Whether index number `generation` (None: any) is wanted and has not been begun."""
        is_wanted = self.life.state in INDEXING_STATES and generation in (None, self.life.generation)
        return is_wanted and (self.indexing is None or self.indexing.generation != self.life.generation)


class Shards(dict[str, Shard]):
    """All shards by key. Which keys there are changes by assigning and deleting alone."""

    def __init__(self) -> None:
        super().__init__()
        self._sorted: list[str] = []
        self._changed: set[str] = set()  # what came or went since that was made

    def __setitem__(self, key: str, shard: Shard) -> None:
        self._changed.add(key)
        super().__setitem__(key, shard)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._changed.add(key)

    def sorted_keys(self) -> Sequence[str]:
        """The keys as they are now, sorted; what becomes of the shards later changes nothing in it.

        Kept from one call to the next, since sorting a hundred thousand takes some 25 ms each time.
        """
        if self._changed:
            kept = [key for key in self._sorted if key not in self._changed]
            came = sorted(key for key in self._changed if key in self)
            self._sorted = sorted(kept + came)  # two runs, which sorting merges
            self._changed = set()
        return self._sorted


def unknown(key: str) -> ShardError:
    """In Lotus' words."""
    return ShardError(ErrorClass.NOT_FOUND, f"shard not found: {key!r}", key=key)
