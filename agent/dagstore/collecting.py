"""What makes room: the dagstore says when, and which shards nobody uses; whoever keeps copies of data does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Collected(Protocol):
    """What became of one shard's copy."""

    @property
    def key(self) -> str: ...

    @property
    def success(self) -> bool: ...

    @property
    def error(self) -> str: ...

    @property
    def freed_bytes(self) -> int: ...


class Collector(Protocol):
    """The copies."""

    async def gc(self) -> Sequence[Collected]:
        """Removes all that nobody uses; of a shard that had nothing to remove nothing is said (D-10)."""

    async def tidy(self) -> int:
        """Removes what is over the limits, and nothing else; gives how many bytes that has freed. Raises ShardError."""
