"""Who goes first: Lotus' order, in which whoever waits rises.

A task's place is fixed when it comes: since all rise alike, it need not be computed again as time goes by. Tasks that
differ in nothing that admission looks at are one `Group`, and of it only the first is looked at: so a decision costs
what there are groups, not what there are tasks.
"""

from __future__ import annotations

import enum
import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, overload

from agent.scheduler import table
from agent.scheduler.requirement import Requirement
from agent.scheduler.tasks import BACKGROUND_PRIORITY, DEAL_PRIORITY, Task

URGENT: Final = 2 * (DEAL_PRIORITY - BACKGROUND_PRIORITY)
"""By how much a kind with a negative order number is before all others."""

Key = tuple[int, int, int, str]
"""Smaller goes first; no two tasks have the same."""
GroupKey = tuple[str, Requirement, frozenset[str], int]


class Assigner(enum.StrEnum):
    """Which of the workers that have room for a task gets it; Lotus' names."""

    UTILIZATION = "utilization"  # the one that is used least
    SPREAD = "spread"  # the one with the fewest tasks


@dataclass(frozen=True, slots=True)
class Policy:
    """How to choose."""

    assigner: Assigner = Assigner.UTILIZATION
    ageing_s: float = (
        600.0  # so long after a task in the background, one that somebody waits for is no more urgent
    )
    ageing_step_s: float = 60.0  # who comes within it is of the same age
    patience_s: float = (
        30.0  # a task that has waited so long is not overtaken any more where it will fit first
    )

    def key(self, task: Task) -> Key:
        """The place of a task in the queue: by priority and age, then by the order of kinds, then by arrival."""
        kind = table.KINDS.get(task.kind)
        order = 0 if kind is None else kind.order
        step = int(task.queued_s // self.ageing_step_s)
        rise = (DEAL_PRIORITY - BACKGROUND_PRIORITY) * self.ageing_step_s / self.ageing_s
        urgency = task.priority + (URGENT if order < 0 else 0)
        return int(step * rise) - urgency, order, task.sequence, task.id


DEFAULT_POLICY: Final = Policy()


class Group:
    """Tasks of one kind, requirement and priority, in order."""

    __slots__ = ("_keys", "_tasks", "key")

    def __init__(self, key: GroupKey) -> None:
        self.key = key
        self._keys: list[Key] = []
        self._tasks: dict[Key, Task] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def at(self, place: int) -> tuple[Key, Task]:
        """The task with so many before it in the group; raises IndexError."""
        key = self._keys[place]
        return key, self._tasks[key]

    def add(self, key: Key, task: Task) -> None:
        if self._keys and key < self._keys[-1]:
            insort(self._keys, key)
        else:
            self._keys.append(key)
        self._tasks[key] = task

    def remove(self, key: Key) -> None:
        del self._keys[bisect_left(self._keys, key)]
        del self._tasks[key]

    def __iter__(self) -> Iterator[tuple[Key, Task]]:
        for key in self._keys:
            yield key, self._tasks[key]


class Queue(Sequence[Task]):
    """The tasks that wait, in order. Adding and removing cost about the same however many there are."""

    def __init__(self, policy: Policy = DEFAULT_POLICY, tasks: Iterable[Task] = ()) -> None:
        self._policy = policy
        self._groups: dict[GroupKey, Group] = {}
        self._places: dict[str, tuple[Group, Key]] = {}
        for task in tasks:
            self.add(task)

    def add(self, task: Task) -> None:
        """Raises ValueError if one with the same id is there."""
        if task.id in self._places:
            raise ValueError(f"task {task.id} waits already")
        group_key = (task.kind, task.requirement, task.barred, task.priority)
        group = self._groups.get(group_key)
        if group is None:
            group = self._groups[group_key] = Group(group_key)
        key = self._policy.key(task)
        group.add(key, task)
        self._places[task.id] = group, key

    def remove(self, task_id: str) -> Task:
        """Takes the task out and gives it; raises KeyError."""
        group, key = self._places.pop(task_id)
        _, task = group.at(bisect_left(group._keys, key))
        group.remove(key)
        if not len(group):
            del self._groups[group.key]
        return task

    def get(self, task_id: str) -> Task | None:
        """The task, if it waits."""
        place = self._places.get(task_id)
        return None if place is None else place[0]._tasks[place[1]]

    def group_of(self, task_id: str) -> Group | None:
        """What it is one of, if it waits."""
        place = self._places.get(task_id)
        return None if place is None else place[0]

    def groups(self) -> Iterable[Group]:
        """None of them is empty."""
        return self._groups.values()

    def __contains__(self, item: object) -> bool:
        return (item.id if isinstance(item, Task) else item) in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Task]:
        """All in order, at the cost of a few comparisons each."""
        for _, task in heapq.merge(*self._groups.values()):
            yield task

    @overload
    def __getitem__(self, place: int) -> Task: ...
    @overload
    def __getitem__(self, place: slice) -> list[Task]: ...
    def __getitem__(self, place: int | slice) -> Task | list[Task]:
        """Costs as much as iterating."""
        return list(self)[place]
