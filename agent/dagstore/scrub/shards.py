"""The dagstore as the scrubber sees it, and what the scrubber adds to the dagstore's records."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from agent.dagstore.access import Access
from agent.dagstore.actors import acting
from agent.dagstore.dagstore import Dagstore
from agent.dagstore.failures import Failure
from agent.dagstore.lifecycle import ShardState
from agent.dagstore.records import ShardRecord, ShardRow
from agent.dagstore.scrub import progress
from agent.dagstore.scrub.records import ScrubState, ScrubSummary
from agent.dagstore.scrub.replicas import Replica
from agent.dagstore.scrub.scrubber import Scrubber
from agent.dagstore.scrub.store import ScrubStore
from agent.dagstore.shards import unknown
from agent.workers import Needs


class Rows(ScrubStore, Protocol):
    """The catalogue."""

    def row(self, key: str) -> ShardRow | None:
        """One shard."""


class DagstoreShards:
    """`scrubber.Shards` over a dagstore."""

    def __init__(self, dagstore: Dagstore, store: Rows) -> None:
        self._dagstore = dagstore
        self._store = store

    def row(self, key: str) -> ShardRow:
        row = self._store.row(key)
        if row is None:
            raise unknown(key)
        return row

    def state(self, key: str) -> ShardState:
        return self._dagstore.upkeep.life(key).state

    def reading(self, key: str) -> AbstractAsyncContextManager[tuple[Access, Needs | None]]:
        return self._dagstore.upkeep.reading(key)

    async def look(self, key: str) -> None:
        await self._dagstore.upkeep.look(key)

    def distrust_index(self, key: str, index: str, reason: str) -> None:
        self._dagstore.upkeep.distrust_index(key, index, reason)

    def condemn(self, key: str, index: str, failure: Failure) -> None:
        row = self.row(key)
        if row.index is not None and row.index.name == index:
            self._dagstore.fail(key, failure, quarantined=failure.message)

    def stand_in(
        self, key: str, index: str, replica: Replica, replicas: tuple[str, ...], reason: str
    ) -> None:
        with acting("agent: standby"):
            self._dagstore.upkeep.stand_in(key, index, replica.url, replicas, replica.fingerprint, reason)

    def index_from(self, key: str, url: str, replicas: tuple[str, ...], reason: str) -> None:
        with acting("agent: standby"):
            self._dagstore.upkeep.index_from(key, url, replicas, reason)

    def set_quarantined(self, key: str, text: str) -> None:
        """Nothing: `annotated` says so whenever a record is asked for."""


def annotated(record: ShardRecord, *, scrubber: Scrubber) -> ShardRecord:
    """The record of a shard with what its verifications have shown, and how it is read with its repairs."""
    state = scrubber.state(record.key)
    if state == ScrubState():
        return record
    quarantined = record.quarantined or progress.summary(state)
    access = None if record.access is None else scrubber.readable(record.key, record.access)
    return msgspec.structs.replace(
        record, quarantined=quarantined, scrub=ScrubSummary.of(state), access=access
    )
