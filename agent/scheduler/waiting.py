"""The tasks that wait, by kind and in the order of the queue.

There may be a hundred thousand of one kind: coming and going costs a search in a sorted list, and who decides is shown
the first few of each kind. Which of the kinds comes first is decided there.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import islice

from agent.scheduler.tasks import Task

SHOWN = 64  # of each kind: more than ever begin at once


class Waiting:
    """A set of tasks that keeps their order: higher priority first, of equals the one that came first."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._kinds: dict[str, list[tuple[int, int, str]]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._tasks

    def add(self, task: Task) -> None:
        self._tasks[task.id] = task
        insort(self._kinds.setdefault(task.kind, []), _place(task))

    def remove(self, task_id: str) -> None:
        """Harmless if it is not in here."""
        task = self._tasks.pop(task_id, None)
        if task is not None:
            places = self._kinds[task.kind]
            del places[bisect_left(places, _place(task))]

    def first(self, of_each: int = SHOWN) -> list[Task]:
        """The first few of each kind."""
        return [self._tasks[key[2]] for places in self._kinds.values() for key in islice(places, of_each)]

    def __iter__(self) -> Iterator[Task]:
        """All, in order."""
        for _, _, task_id in heapq.merge(*self._kinds.values()):
            yield self._tasks[task_id]


def _place(task: Task) -> tuple[int, int, str]:
    return -task.priority, task.sequence, task.id
