"""What a task needs, as far as is known now: what an operator has said, else what was learned, else the formula."""

from __future__ import annotations

from typing import Protocol

from agent.scheduler import table
from agent.scheduler.jobs import Estimate
from agent.scheduler.overrides import Overrides
from agent.scheduler.requirement import Requirement
from agent.scheduler.tasks import Task


class EstimateStore(Protocol):
    """Where what was learned is kept: `agent.catalogue.Catalogue`. Raises ShardError."""

    def estimates(self) -> list[Estimate]:
        """All of them."""

    def put_estimate(self, estimate: Estimate) -> None:
        """Inserts or replaces the one of that kind and size."""


class Requirements:
    """Knows what tasks need, and learns it."""

    def __init__(self, store: EstimateStore, overrides: Overrides) -> None:
        self._store = store
        self._overrides = overrides

    def of(self, kind: str, size_bytes: int) -> Requirement:
        """For a task of that kind on so much data; raises KeyError for a kind that is none."""
        needs = table.requirement(kind, size_bytes)
        return self._overrides.apply(kind, size_bytes, needs)

    def learn(self, task: Task, peak_bytes: int) -> None:
        """The task has ended well, and took so much at most; 0: nobody knows."""

    def outgrown(self, task: Task, limit_bytes: int) -> None:
        """It was killed, since it took more than this."""

    def learned(self) -> tuple[Estimate, ...]:
        return tuple(self._store.estimates())
