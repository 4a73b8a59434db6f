"""The indices of all shards, as the inverted index, which is derived from them, takes them in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Container
from pathlib import Path

import trio

from agent.catalogue import Store
from agent.dagstore import index_files
from agent.dagstore.inverted.index import ShardIndex
from agent.dagstore.records import IndexFacts

AT_ONCE = 256  # rows that are read from the catalogue before others have a turn


class Indices:
    """What the catalogue has of the shards whose keys are in `shards`."""

    def __init__(self, store: Store, shards: Container[str], directory: Path) -> None:
        self._store = store
        self._shards = shards
        self._directory = directory

    def of(self, key: str, facts: IndexFacts) -> ShardIndex:
        """The index of one shard."""
        generation, path = index_files.generation_of(facts.name), self._directory / facts.name
        return ShardIndex(key, generation, facts.checksum, path, facts.blocks)

    async def all(self) -> AsyncIterator[ShardIndex]:
        """Those of all shards, by key."""
        after = ""
        while rows := self._store.rows_after(after, AT_ONCE):
            after = rows[-1].key
            for row in rows:
                if row.index is not None and row.key in self._shards:
                    yield self.of(row.key, row.index)
            await trio.lowlevel.checkpoint()
