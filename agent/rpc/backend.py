"""What the methods need of the parts around the dagstore: small enough that a test can stand in for each.

`agent.service` gives the real ones. A part that is None was not set up; its methods say so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Protocol

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.scrub.records import Depth, ScrubEvent, ScrubState
from agent.dagstore.scrub.scrubber import ScrubStatistics
from agent.doctor.findings import Finding


class Verifier(Protocol):
    """Scrubbing: by hand, and what is known of all of it."""

    def verify(
        self, keys: Sequence[str], *, depth: Depth, sample: int, by: str
    ) -> AsyncGenerator[ScrubEvent, None]:
        """Verifies shards one after the other, and says how far it is and what it finds; raises ShardError."""

    def state(self, key: str) -> ScrubState:
        """What is known of a shard; raises ShardError(not-found)."""

    def quarantined(self) -> dict[str, str]:
        """By key, what of a shard cannot be read, in a line."""

    def statistics(self) -> ScrubStatistics:
        """What runs, and what is due."""


class Doctor(Protocol):
    """Looks over the whole state of the agent."""

    def __call__(self, *, with_fix: bool) -> Awaitable[list[Finding]]:
        """What is not well, the worst first; with `with_fix`, after mending what can be without a risk."""


def not_set_up(what: str) -> ShardError:
    """For a part that this agent runs without."""
    return ShardError(ErrorClass.INVALID, f"this agent has no {what}")
