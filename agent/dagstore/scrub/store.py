"""The catalogue and the dagstore as the scrubber sees them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from agent.dagstore.access import Access
from agent.dagstore.failures import Failure
from agent.dagstore.lifecycle import ShardState
from agent.dagstore.records import ShardRow
from agent.dagstore.scrub.records import ScrubState
from agent.workers import Needs


class ScrubStore(Protocol):
    """Where progress and verdicts are kept; durable when it returns. Raises ShardError."""

    def scrub(self, key: str) -> ScrubState:
        """What is known of one shard; an empty state where nothing is."""

    def scrub_page(self, after: str, limit: int) -> list[tuple[str, str, str, ScrubState]]:
        """Shards by key, those greater than `after`: key, URL, when it was registered (RFC 3339), what is known."""

    def scrubs_with_findings(self) -> Iterable[tuple[str, ScrubState]]:
        """Of those shards that have bad blocks or repairs, or are read from a replica."""

    def put_scrub(self, key: str, state: ScrubState) -> None:
        """Replaces it; nothing happens where there is no such shard (any more)."""


class Shards(Protocol):
    """What the scrubber needs of the dagstore."""

    def row(self, key: str) -> ShardRow:
        """Raises ShardError(not-found)."""

    def state(self, key: str) -> ShardState:
        """Raises ShardError(not-found)."""

    def reading(self, key: str) -> AbstractAsyncContextManager[tuple[Access, Needs | None]]:
        """How a worker reads the data, without repairs, for the time of a block; raises ShardError."""

    async def look(self, key: str) -> None:
        """Looks at the data and moves the shard on if it is not what was indexed; raises ShardError(busy)."""

    def distrust_index(self, key: str, index: str, reason: str) -> None:
        """Has the index made anew, if it is still the one of that name."""

    def condemn(self, key: str, index: str, failure: Failure) -> None:
        """Makes the shard Errored, if its index is still the one of that name."""

    def set_quarantined(self, key: str, text: str) -> None:
        """Says in the shard's record what of it cannot be read; empty: nothing."""
