"""Decides what is begun where: a pure function of the queue, the workers as they are now, and the time.

Nothing is promised to a worker before it can start there (S-4), so nothing is ever stuck with one that went bad. Tasks
are looked at in the order of the queue. Smaller ones may overtake one that does not fit, until its patience is over:
from then on, the worker where it will fit first is held for it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.scheduler import utilisation
from agent.scheduler.admission import Fit, Load, Obstacle, Rule, size
from agent.scheduler.order import DEFAULT_POLICY, Assigner, Group, Key, Policy, Queue
from agent.scheduler.tasks import Decision, Task, Wait, WorkerView

_HOLDING = {
    Rule.LEAST_RESERVED,
    Rule.HEADROOM,
    Rule.LEAST_HEADROOM,
    Rule.RESERVED,
    Rule.THREADS,
    Rule.PIDS,
    Rule.DISK,
    Rule.ALONE,
}
"""What goes away when tasks end; a worker is held for these alone."""


def decide(
    queue: Sequence[Task], workers: Sequence[WorkerView], now_s: float, policy: Policy = DEFAULT_POLICY
) -> Decision:
    """What is to be begun where, in this order, and why the others wait.

    The queue is not changed. A `Queue` is decided on in the time that its groups take; any other sequence is made one
    first. `waiting` of the decision looks into the queue and holds for what waits in it when it is asked.
    """
    waiting = queue if isinstance(queue, Queue) else Queue(policy, queue)
    one = _Pass(workers, now_s, policy)
    one.run(waiting.groups())
    return Decision(tuple(one.assigned), _Waits(one, waiting))


class _Waits(Mapping[str, Wait]):
    """Reasons by task, found when they are asked for: tasks that are all alike all wait for the same."""

    def __init__(self, done: _Pass, queue: Queue) -> None:
        self._pass = done
        self._queue = queue
        self._assigned = frozenset(task_id for task_id, _ in done.assigned)
        self._by_group: dict[Group, Wait] = {}

    def __getitem__(self, task_id: str) -> Wait:
        group = None if task_id in self._assigned else self._queue.group_of(task_id)
        if group is None:
            raise KeyError(task_id)
        if group not in self._by_group:
            self._by_group[group] = self._pass.wait(group.at(0)[1])
        return self._by_group[group]

    def __iter__(self) -> Iterator[str]:
        return (task.id for task in self._queue if task.id not in self._assigned)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(slots=True)
class _Candidate:
    """A worker that does the kind, and why it has no room for the task now."""

    load: Load
    fit: Fit
    obstacle: Obstacle | None

    @property
    def distance(self) -> tuple[int, bool, float, str, str]:
        """From having room: a worker that others fill is farther than one that we fill."""
        worker = self.load.worker
        is_held = self.obstacle is not None and self.obstacle.rule is Rule.HELD
        share = self.obstacle.share if self.obstacle is not None else 0.0
        return -self.fit.value, is_held, share, worker.name, worker.id


class _Pass:
    """One decision: on its way, and then what it knows of those that wait."""

    def __init__(self, workers: Sequence[WorkerView], now_s: float, policy: Policy) -> None:
        self.assigned: list[tuple[str, str]] = []
        self._loads = [Load(worker) for worker in workers]
        self._now_s = now_s
        self._policy = policy
        self._held: dict[str, Task] = {}  # by worker: for whom
        self._able_by_kind: dict[tuple[str, frozenset[str]], Sequence[Load]] = {}

    def run(self, groups: Iterable[Group]) -> None:
        """Goes through the tasks in order; of a group, up to the first for which there is no room."""
        heads = sorted((group.key_at(0), number, group) for number, group in enumerate(groups))
        again: list[tuple[Key, int, Group, int]] = []  # next ones of groups of which some were placed
        refused: dict[int, bool] = {}  # by what groups are alike in: whether one that was overdue was refused
        at = 0
        while at < len(heads) or again:
            if not again or (at < len(heads) and heads[at][0] < again[0][0]):
                _, number, group = heads[at]
                place, at = 0, at + 1
            else:
                _, number, group, place = heapq.heappop(again)
            is_overdue = self._now_s - group.queued_at(place) >= self._policy.patience_s
            if group.alike in refused and (refused[group.alike] or not is_overdue):
                continue
            if not self._place(group.at(place)[1], is_overdue=is_overdue):
                refused[group.alike] = is_overdue
            elif place + 1 < len(group):
                heapq.heappush(again, (group.key_at(place + 1), number, group, place + 1))

    def _place(self, task: Task, *, is_overdue: bool) -> bool:
        """Gives the task to a worker, if one has room for it."""
        able = self._able(task)
        takes_cpus = task.requirement.max_parallelism != 0
        open_loads = [load for load in able if not self._is_shut(load, takes_cpus=takes_cpus)]
        free = [load for load in open_loads if load.obstacle(task) is None]
        if not free:
            if not open_loads or not (is_overdue or any(not load.tasks for load in open_loads)):
                return False  # told apart early, since this is what comes of most
            candidates = self._candidates(task, able)
            free = [candidate.load for candidate in candidates if candidate.obstacle is None]
            if not free:
                if is_overdue:
                    self._hold(task, candidates)
                return False
        load = min(free, key=self._rank)
        load.assign(task)
        self.assigned.append((task.id, load.worker.id))
        return True

    def _is_shut(self, load: Load, *, takes_cpus: bool) -> bool:
        return (takes_cpus and load.threads >= load.worker.cpus) or load.worker.id in self._held

    def _able(self, task: Task) -> Sequence[Load]:
        key = task.kind, task.barred
        able = self._able_by_kind.get(key)
        if able is None:
            able = self._able_by_kind[key] = [
                load
                for load in self._loads
                if task.kind in load.worker.kinds
                and load.worker.enabled
                and load.worker.id not in task.barred
            ]
        return able

    def _candidates(self, task: Task, able: Sequence[Load]) -> list[_Candidate]:
        fits = [load.fit(task) for load in able]
        candidates = []
        for load, fit in zip(able, fits, strict=True):
            obstacle = load.obstacle(task)
            if obstacle is not None and fit is Fit.SQUEEZED and Fit.WELL not in fits:
                obstacle = load.squeezed_obstacle(task)
            held = self._held.get(load.worker.id)
            if held is not None and (held.kind, held.requirement) != (task.kind, task.requirement):
                obstacle = Obstacle(Rule.HELD)
            candidates.append(_Candidate(load, fit, obstacle))
        return candidates

    def _rank(self, load: Load) -> tuple[float, float, str, str]:
        """The worker with the lowest gets the task."""
        used = utilisation.of(load)
        first = load.tasks if self._policy.assigner is Assigner.SPREAD else used
        return first, used, load.worker.name, load.worker.id

    def _hold(self, task: Task, candidates: Sequence[_Candidate]) -> None:
        """Keeps the worker where the task will fit first from all that come after it."""
        best = max((candidate.fit for candidate in candidates), key=lambda fit: fit.value)
        if best not in (Fit.WELL, Fit.SQUEEZED):
            return
        possible = [
            one
            for one in candidates
            if one.fit is best and one.obstacle is not None and one.obstacle.rule in _HOLDING
        ]
        if possible:
            self._held.setdefault(min(possible, key=lambda one: one.distance).load.worker.id, task)

    def wait(self, task: Task) -> Wait:
        """Why the task waits: for the worker that comes nearest."""
        able = self._able(task)
        if not able:
            return self._nobody(task)
        candidates = self._candidates(task, able)
        possible = [candidate for candidate in candidates if candidate.fit is not Fit.NEVER]
        if not possible:
            return _hopeless(task, max((load.worker for load in able), key=lambda worker: worker.memory))
        nearest = min(possible, key=lambda candidate: candidate.distance)
        worker, obstacle = nearest.load.worker, nearest.obstacle
        if obstacle is None:
            return Wait("has only just come", worker.id)
        if obstacle.rule is Rule.HELD:
            other = self._held[worker.id]
            return Wait(f"{other.kind} {other.subject} has waited too long to be overtaken", worker.id)
        if nearest.fit is Fit.NOT_NOW and not any(load.tasks for load in self._loads):
            return _stuck(task, nearest.load, obstacle)
        return Wait(nearest.load.reason(task, obstacle), worker.id)

    def _nobody(self, task: Task) -> Wait:
        able = [load.worker for load in self._loads if task.kind in load.worker.kinds]
        if not able:
            return Wait(f"no worker does {task.kind}", is_hopeless=True)
        able = [worker for worker in able if worker.id not in task.barred]
        if not able:
            return Wait(
                f"every worker that does {task.kind} has said that it cannot do this", is_hopeless=True
            )
        return Wait(f"every worker that could do {task.kind} is disabled", able[0].id)


def _stuck(task: Task, load: Load, obstacle: Obstacle) -> Wait:
    """Nothing of ours runs, and others leave too little."""
    obstacle = load.squeezed_obstacle(task) or obstacle
    remedy = "make room there" if obstacle.rule is Rule.DISK else "raise that, or end what else uses it"
    reason = f"{load.reason(task, obstacle)}; no task runs that would give any back: {remedy}"
    return Wait(reason, load.worker.id, is_stuck=True)


def _hopeless(task: Task, biggest: WorkerView) -> Wait:
    least = size(task.requirement.min_memory + task.requirement.base_min_memory)
    limit = f"the {size(biggest.memory)} that {biggest.memory_by} allows"
    return Wait(f"needs at least {least}, more than {limit}: raise that", is_hopeless=True)
