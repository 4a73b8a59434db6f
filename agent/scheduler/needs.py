"""What a task needs, as far as is known now, and keeping what was learned of it from one start to the next."""

from __future__ import annotations

import logging
from typing import Protocol

from agent.dagstore.failures import ShardError
from agent.scheduler import estimating
from agent.scheduler.estimating import Estimates, Learned
from agent.scheduler.jobs import Estimate
from agent.scheduler.overrides import Overrides
from agent.scheduler.requirement import Requirement
from agent.scheduler.tasks import Task

logger = logging.getLogger(__name__)

WORTH_KEEPING = 0.05
"""By what part an estimate must have changed to be written down: each task that ends changes it a little."""


class EstimateStore(Protocol):
    """Where what was learned is kept: `agent.catalogue.Catalogue`. Raises ShardError."""

    def estimates(self) -> list[Estimate]:
        """All of them."""

    def put_estimate(self, estimate: Estimate) -> None:
        """Inserts or replaces the one of that kind and size."""


class Requirements:
    """Knows what tasks need, and learns it. Raises ShardError if what was learned cannot be read."""

    def __init__(self, store: EstimateStore, overrides: Overrides) -> None:
        self._store = store
        self._overrides = overrides
        self._kept = {(one.kind, one.size_class): one for one in store.estimates()}
        self._estimates = Estimates(
            {
                key: Learned(one.peak_bytes, size_bytes=one.size_bytes, tasks=one.tasks)
                for key, one in self._kept.items()
            }
        )

    def of(self, kind: str, size_bytes: int) -> Requirement:
        """For a task of that kind on so much data; raises KeyError for a kind that is none."""
        return estimating.required(kind, size_bytes, self._estimates, self._overrides)

    def learn(self, task: Task, peak_bytes: int) -> None:
        """The task has ended well, and took so much at most; 0: nobody knows."""
        self._estimates = self._estimates.observe(task.kind, task.size_bytes, peak_bytes)
        self._keep()

    def outgrown(self, task: Task, limit_bytes: int) -> None:
        """It was killed, since it took more than this."""
        self._estimates = self._estimates.observe(
            task.kind, task.size_bytes, 0, killed=True, limit_bytes=limit_bytes
        )
        self._keep()

    def learned(self) -> tuple[Estimate, ...]:
        """All that was, sorted by kind."""
        return tuple(
            Estimate(kind, size_class, one.peak_bytes, one.tasks, one.size_bytes)
            for kind, size_class, one in self._estimates.known()
        )

    def _keep(self) -> None:
        for one in self.learned():
            before = self._kept.get((one.kind, one.size_class))
            if before is None or _is_news(before, one):
                self._kept[one.kind, one.size_class] = one
                try:
                    self._store.put_estimate(one)
                except ShardError as error:
                    logger.warning("what tasks take is not kept for the next start: %s", error)


def _is_news(before: Estimate, now: Estimate) -> bool:
    is_little = now.tasks <= estimating.ENOUGH and now.tasks != before.tasks
    return is_little or abs(now.peak_bytes - before.peak_bytes) > before.peak_bytes * WORTH_KEEPING
