"""Which tasks wait for what does not come by itself, so that the log tells of them: once, not each second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from agent.scheduler.order import Queue
from agent.scheduler.tasks import Task, Wait


class Stuck:
    """What has been told."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = (
            patience_s  # that a task has waited before it is told of: others may be about to end
        )
        self._told: set[tuple[str, bool]] = set()  # kind, and whether it is hopeless

    def begun(self, task: Task) -> None:
        """One of its kind has begun, so the next that is stuck is news."""
        self._told = {(kind, is_hopeless) for kind, is_hopeless in self._told if kind != task.kind}

    def news(self, queue: Queue, waiting: Mapping[str, Wait], now_s: float) -> list[str]:
        """What there is to tell now, a sentence each."""
        found: dict[tuple[str, bool], tuple[Task, Wait]] = {}
        counts: Counter[tuple[str, bool]] = Counter()
        for group in queue.groups():
            if now_s - group.queued_at(0) < self._patience_s:
                continue
            _, first = group.at(0)
            wait = waiting.get(first.id)
            if wait is not None and (wait.is_hopeless or wait.is_stuck):
                key = first.kind, wait.is_hopeless
                counts[key] += len(group)
                found.setdefault(key, (first, wait))
        news = []
        for key, (task, wait) in found.items():
            if key not in self._told:
                self._told.add(key)
                more = f" (and {counts[key] - 1} more of them)" if counts[key] > 1 else ""
                news.append(f"{task.kind} of {task.subject}{more} cannot begin: {wait.reason}")
        return news
