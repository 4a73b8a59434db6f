"""Where the progress and the verdicts of verifications are kept: the catalogue, as the scrubber sees it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from agent.dagstore.scrub.records import ScrubState


class ScrubStore(Protocol):
    """Where progress and verdicts are kept; durable when it returns. Raises ShardError."""

    def scrub(self, key: str) -> ScrubState:
        """What is known of one shard; an empty state where nothing is."""

    def scrubs(self) -> Iterable[tuple[str, ScrubState]]:
        """Of all shards of which anything is known."""

    def put_scrub(self, key: str, state: ScrubState) -> None:
        """Replaces it; nothing happens where there is no such shard (any more)."""
