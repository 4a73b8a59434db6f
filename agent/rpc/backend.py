"""What the methods need of the parts around the dagstore: small enough that a test can stand in for each.

`agent.service` gives the real ones. A part that is None was not set up; its methods say so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.scrub.records import Depth, ScrubEvent


class Verifier(Protocol):
    """Scrubbing by hand."""

    def verify(
        self, keys: Sequence[str], *, depth: Depth, sample: int, by: str
    ) -> AsyncGenerator[ScrubEvent, None]:
        """Verifies shards one after the other, and says how far it is and what it finds; raises ShardError."""


def not_set_up(what: str) -> ShardError:
    """For a part that this agent runs without."""
    return ShardError(ErrorClass.INVALID, f"this agent has no {what}")
