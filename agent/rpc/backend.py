"""What the methods need of the dagstore and its parts: the whole of it, so that a test can stand in for each.

`agent.service` gives the real ones. A part that is None was not set up; its methods say so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError


class Collected(msgspec.Struct, frozen=True, rename="pascal"):
    """What a collection of garbage did about one shard's transient."""

    key: str
    bytes_freed: int
    error: str = ""


class Collector(Protocol):
    """Transients that can go."""

    async def gc(self) -> list[Collected]:
        """Frees what nobody uses, down to the quota; a shard that had nothing to free is not in the list (D-10)."""


class CidIndex(Protocol):
    """The inverted index."""

    def lookup(self, multihash: bytes) -> list[str]:
        """The keys of the shards that have the block."""


class Verified(msgspec.Struct, frozen=True, rename="pascal"):
    """How verifying one shard goes on, or how it ended (`event` "end")."""

    key: str
    event: str  # "start", "progress" or "end"
    done: int = 0  # bytes
    total: int = 0
    good: bool = False
    problems: tuple[str, ...] = ()


class Verifier(Protocol):
    """Scrubbing by hand."""

    def verify(self, key: str, depth: str) -> AbstractAsyncContextManager[AsyncIterator[Verified]]:
        """Verifies one shard now; raises ShardError."""


def not_set_up(what: str) -> ShardError:
    """For a part that this agent runs without."""
    return ShardError(ErrorClass.INVALID, f"this agent has no {what}")
