"""Who goes first: Lotus' order, in which whoever waits rises.

A task's place is fixed when it comes: since all rise alike, it need not be computed again as time goes by. Tasks that
differ in nothing that admission looks at are one `Group`, and of it only the first is looked at: so a decision costs
what there are groups, not what there are tasks.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, overload

from agent.scheduler import table
from agent.scheduler.requirement import Requirement
from agent.scheduler.tasks import BACKGROUND_PRIORITY, DEAL_PRIORITY, Task

URGENT: Final = 2 * (DEAL_PRIORITY - BACKGROUND_PRIORITY)
"""By how much a kind with a negative order number is before all others."""

Key = tuple[int, int, int, str]
"""Smaller goes first; no two tasks have the same."""
Needs = Callable[[str, int], Requirement]
"""By kind and size of the data: `estimating.required` with what has been learned."""
Alike = tuple[str, Requirement, frozenset[str]]
"""Kind, requirement and workers that cannot do it: all that a worker is asked about a task."""
GroupKey = tuple[str, Requirement, frozenset[str], int, int, bool]


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
    """Tasks of one kind, priority, requirement and about one size, in order."""

    __slots__ = ("_keys", "_needs", "_tasks", "alike", "key")

    def __init__(self, key: GroupKey) -> None:
        self.key = key
        self.alike = 0  # the same for groups that differ in nothing that a worker is asked
        self._keys: list[Key] = []
        self._tasks: dict[Key, Task] = {}
        self._needs: Requirement | None = None

    def revise(self, needs: Needs | None, alikes: dict[Alike, int]) -> None:
        """Takes what tasks of this kind and size need now; a second attempt keeps what it was given."""
        kind, given, barred, _, size_bytes, is_first = self.key
        self._needs = needs(kind, size_bytes) if needs is not None and is_first else None
        self.alike = alikes.setdefault((kind, self._needs or given, barred), len(alikes))

    def revised(self, task: Task) -> Task:
        """One of its tasks with what it needs now."""
        if self._needs is None or self._needs == task.requirement:
            return task
        return replace(task, requirement=self._needs)

    def __len__(self) -> int:
        return len(self._keys)

    def key_at(self, place: int) -> Key:
        """The key of the task with so many before it in the group; raises IndexError."""
        return self._keys[place]

    def queued_at(self, place: int) -> float:
        """When that task came."""
        return self._tasks[self._keys[place]].queued_s

    def at(self, place: int) -> tuple[Key, Task]:
        """The task with so many before it in the group, with what it needs now; raises IndexError."""
        key = self._keys[place]
        return key, self.revised(self._tasks[key])

    def get(self, key: Key) -> Task:
        return self.revised(self._tasks[key])

    def add(self, key: Key, task: Task) -> None:
        if self._keys and key < self._keys[-1]:
            insort(self._keys, key)
        else:
            self._keys.append(key)
        self._tasks[key] = task

    def remove(self, key: Key) -> Task:
        del self._keys[bisect_left(self._keys, key)]
        return self.revised(self._tasks.pop(key))

    def __iter__(self) -> Iterator[tuple[Key, Task]]:
        for key in self._keys:
            yield key, self.revised(self._tasks[key])


class Queue(Sequence[Task]):
    """The tasks that wait, in order. Adding and removing cost about the same however many there are.

    What it gives has the requirement of the moment: see `revise`.
    """

    def __init__(self, policy: Policy = DEFAULT_POLICY, tasks: Iterable[Task] = ()) -> None:
        self._policy = policy
        self._needs: Needs | None = None
        self._alikes: dict[Alike, int] = {}
        self._groups: dict[GroupKey, Group] = {}
        self._places: dict[str, tuple[Group, Key]] = {}
        for task in tasks:
            self.add(task)

    def revise(self, needs: Needs) -> None:
        """From now on, tasks of first attempts need what `needs` says, whatever they came with; it is asked once a
        group, and again when this is called again."""
        self._needs = needs
        self._alikes.clear()
        for group in self._groups.values():
            group.revise(needs, self._alikes)

    def add(self, task: Task) -> None:
        """Raises ValueError if one with the same id is there."""
        if task.id in self._places:
            raise ValueError(f"task {task.id} waits already")
        size_bytes, is_first = table.about(task.size_bytes), task.attempt == 1
        group_key = (task.kind, task.requirement, task.barred, task.priority, size_bytes, is_first)
        group = self._groups.get(group_key)
        if group is None:
            group = self._groups[group_key] = Group(group_key)
            group.revise(self._needs, self._alikes)
        key = self._policy.key(task)
        group.add(key, task)
        self._places[task.id] = group, key

    def remove(self, task_id: str) -> Task:
        """Takes the task out and gives it; raises KeyError."""
        group, key = self._places.pop(task_id)
        task = group.remove(key)
        if not len(group):
            del self._groups[group.key]
        if not self._groups:
            self._alikes.clear()  # which workers have barred tasks, in ever new sessions
        return task

    def get(self, task_id: str) -> Task | None:
        """The task, if it waits."""
        place = self._places.get(task_id)
        return None if place is None else place[0].get(place[1])

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
        """All in order, which costs a sort and a look at each: 0.3 s for 100,000."""
        places = sorted(self._places.values(), key=lambda place: place[1])
        return (group.get(key) for group, key in places)

    def first(self, count: int) -> list[Task]:
        """So many of them, in order, without looking at all."""
        return [task for _, task in itertools.islice(heapq.merge(*self._groups.values()), count)]

    @overload
    def __getitem__(self, place: int) -> Task: ...
    @overload
    def __getitem__(self, place: slice) -> list[Task]: ...
    def __getitem__(self, place: int | slice) -> Task | list[Task]:
        """Costs as much as iterating."""
        return list(self)[place]
