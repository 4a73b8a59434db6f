"""What the upkeep of shards (verification, standing in, the doctor) asks of the dagstore, beside what clients ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec

from agent.catalogue import Store
from agent.dagstore.access import Access, FileAccess
from agent.dagstore.lifecycle import INDEXED_STATES, Changed, Life, Recover, Returned, ShardState
from agent.dagstore.looking import Looks
from agent.dagstore.mounts import Fingerprint, parse
from agent.dagstore.records import source_url
from agent.dagstore.remotes import Remotes
from agent.dagstore.shards import Shard, unknown
from agent.dagstore.steps import Move, Steps
from agent.dagstore.transients import Transient


class Upkeep:
    """Over the same shards, steps and looks as the dagstore."""

    def __init__(
        self, steps: Steps, store: Store, shards: Mapping[str, Shard], looks: Looks, remotes: Remotes
    ) -> None:
        self._steps = steps
        self._store = store
        self._shards = shards
        self._looks = looks
        self._remotes = remotes

    def life(self, key: str) -> Life:
        """Where a shard is in its life; raises ShardError(not-found)."""
        return self._shard(key).life

    async def look(self, key: str) -> None:
        """Looks at the data of a shard and moves it on if it is not what was indexed; raises ShardError: not-found,
        busy (we could not look)."""
        await self._looks.at(self._shard(key))

    @asynccontextmanager
    async def reading(self, key: str) -> AsyncIterator[tuple[Access, Transient | None]]:
        """How a worker reads the data of an indexed shard for the time of the block, and who gets what is not here yet;
        raises ShardError."""
        shard = self._shard(key)
        path = parse(source_url(shard.row)).path
        if path is not None:
            yield FileAccess(str(path)), None
            return
        async with self._remotes.reading(shard) as (access, transient):
            yield access, transient

    def distrust_index(self, key: str, name: str, reason: str) -> None:
        """Has the index made anew if it is still the one of that name, and used."""
        shard = self._shards.get(key)
        if shard is not None and shard.life.state in INDEXED_STATES:
            index = shard.row.index
            if index is not None and index.name == name:
                self._steps.settle(shard, Changed(reason))

    def stand_in(
        self, key: str, index: str, url: str, replicas: tuple[str, ...], fingerprint: Fingerprint, reason: str
    ) -> None:
        """Reads the shard from another mount of the same bytes from now on, if its index is still the one of that name;
        an Errored one is Available then. Raises ShardError."""
        shard = self._shard(key)
        row = shard.row
        if row.index is None or row.index.name != index:
            return
        facts = msgspec.structs.replace(row.index, fingerprint=fingerprint)
        moved = msgspec.structs.replace(row, url=url, replicas=replicas, index=facts)
        self._steps.note(shard, moved, "StandIn", reason)
        if shard.life.state is ShardState.ERRORED:
            self._steps.settle(shard, Returned(shard.life.generation))

    def index_from(self, key: str, url: str, replicas: tuple[str, ...], reason: str) -> None:
        """Has an Errored shard without an index read from another mount of the same bytes from now on, and indexed from
        there. Raises ShardError."""
        shard = self._shard(key)
        if shard.life.state is ShardState.ERRORED and shard.row.index is None:
            moved = {"url": url, "replicas": replicas}
            self._steps.apply_all([Move(shard, Recover(None, reason), changes=moved)])

    def _shard(self, key: str) -> Shard:
        shard = self._shards.get(key)
        if shard is None:
            raise unknown(key)
        return shard
