"""Whether a worker has room for a task, and what it lacks where it has not.

`Load` is a worker with what it has been given; `Load.obstacle` goes through Lotus' rules in Lotus' order and then ours.
Nothing in it is ever negative: what is left of less than nothing is nothing.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from typing import Final

from agent.scheduler import table
from agent.scheduler.requirement import Requirement
from agent.scheduler.tasks import Phase, Running, Task, WorkerView

PROCESS_PIDS: Final = 4
"""Processes and threads that a worker process is, besides those that compute: it reads, it writes, its pool waits."""
_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30


class Rule(enum.Enum):
    """What a worker is asked, in this order; the value says it for people."""

    TURN = "fewer of its kind run than may run at once"
    LEAST_RESERVED = "the least memory of all that runs, and its own, fit under the limit"
    HEADROOM = "its peak fits into the headroom now, less what is reserved and not yet used"
    LEAST_HEADROOM = "likewise its least memory, swap left out"
    RESERVED = "the peaks of all that runs, and its own, fit under the limit of memory and swap"
    THREADS = "there are CPUs for its threads"
    PIDS = "there is room for its processes and threads under pids.max"
    DISK = "what it will write fits on the disk"
    PRESSURE = "nobody waits for memory there"
    HELD = "the worker is not held for a task that has waited too long"
    ALONE = "nothing else runs, for a task that fits well nowhere"


class Fit(enum.Enum):
    """Whether a task fits where nothing else of ours runs."""

    NEVER = 0  # not under the limits as they are
    NOT_NOW = 1  # others, outside of the worker, use too much
    SQUEEZED = 2  # what it cannot do without fits, what it may take does not
    WELL = 3


@dataclass(frozen=True, slots=True)
class Obstacle:
    """The first rule that keeps a task from a worker."""

    rule: Rule
    need: int = 0
    left: int = 0

    @property
    def share(self) -> float:
        """Of what it needs that is not there: 0 to 1."""
        return (self.need - self.left) / self.need if self.need else 1.0


class Load:
    """What has been reserved on a worker; sizes in bytes."""

    def __init__(self, worker: WorkerView) -> None:
        self.worker = worker
        self.min_memory = self.max_memory = 0  # of what runs
        self.task_bytes = 0  # that what runs uses now
        self.unused = self.unused_min = 0  # of what is reserved for what runs, it may still take
        self.threads = self.disk = self.tasks = 0
        self.pids = self.active_pids = 0  # those that are still to be begun, those that are there
        self.kinds: Counter[str] = Counter()
        self.bases: dict[str, int] = {}  # shared memory by kind, held while any of it runs (S-2)
        self.base_memory = 0  # of all kinds together
        for running in worker.running:
            self._add(running)

    def assign(self, task: Task) -> None:
        """The task begins here."""
        self._add(Running(task, Phase.PREPARING, 0, 0.0))

    def _add(self, running: Running) -> None:
        needs, kind = running.task.requirement, running.task.kind
        self.min_memory += needs.min_memory
        self.max_memory += needs.max_memory
        self.task_bytes += running.used_bytes
        self.unused += max(0, needs.max_memory - running.used_bytes)
        self.threads += self.threads_of(needs)
        self.disk += needs.disk
        self.unused_min += max(0, needs.min_memory - running.used_bytes)
        if running.phase is Phase.PREPARING:
            self.pids += _pids(running.task, self.worker)
        else:
            self.active_pids += _pids(running.task, self.worker)
        self.tasks += 1
        self.kinds[kind] += 1
        base = self.base_of(running.task)
        if base:
            self.bases[kind] = needs.base_min_memory
            self.base_memory += base

    @property
    def memory_used(self) -> int:
        """Of the limit, by anybody."""
        return max(0, self.worker.memory - self.worker.memory_left)

    @property
    def swap_used(self) -> int:
        return max(0, self.worker.swap - self.worker.swap_left)

    @property
    def promised(self) -> int:
        """What is reserved for what runs, which does not use it yet."""
        return self.unused + self.base_memory

    @property
    def free(self) -> int:
        """The headroom, swap included, that is not promised to what runs."""
        return max(0, self.worker.memory_left + self.worker.swap_left - self.promised)

    def threads_of(self, needs: Requirement) -> int:
        """A task that would take more threads than there are CPUs gets as many as there are."""
        return min(needs.threads(self.worker.cpus), self.worker.cpus)

    def base_of(self, task: Task) -> int:
        """Shared memory that is still to be reserved when the task begins."""
        return max(0, task.requirement.base_min_memory - self.bases.get(task.kind, 0))

    def obstacle(self, task: Task) -> Obstacle | None:
        """The first rule that the task breaks here now, if any; whether the worker does its kind is not asked."""
        needs = task.requirement
        count = self.kinds[task.kind]
        if 0 < needs.max_concurrent <= count:
            return Obstacle(Rule.TURN, 1, 0)
        return (
            self._memory(needs, self.base_of(task))
            or self._short(Rule.THREADS, self.threads_of(needs), self.worker.cpus - self.threads)
            or self._others(task)
        )

    def squeezed_obstacle(self, task: Task) -> Obstacle | None:
        """Likewise for a task that fits well nowhere, and may run alone with less than it would like."""
        needs = task.requirement
        least = needs.min_memory + needs.base_min_memory
        if self.tasks:
            return Obstacle(Rule.ALONE, least, max(0, self.worker.memory_left))
        return self._short(Rule.LEAST_HEADROOM, least, self.worker.memory_left) or self._others(task)

    def fit(self, task: Task) -> Fit:
        """How it would fit if nothing else of ours ran here."""
        needs, worker = task.requirement, self.worker
        least = needs.min_memory + needs.base_min_memory
        most = needs.max_memory + needs.base_min_memory
        if least > worker.memory:
            return Fit.NEVER
        room = worker.memory_left + self.task_bytes
        pids = worker.pids_left + self.active_pids
        if least > room or needs.disk > worker.disk_left or _pids(task, worker) > pids:
            return Fit.NOT_NOW
        return Fit.SQUEEZED if most > min(room, worker.memory) + worker.swap_left else Fit.WELL

    def _memory(self, needs: Requirement, base: int) -> Obstacle | None:
        worker, base_memory = self.worker, self.base_memory
        least, most = needs.min_memory + base, needs.max_memory + base
        spoken_for = max(self.max_memory + base_memory, self.memory_used + self.swap_used)
        return (
            # Lotus' first rule: what others use is not asked, since it can be swapped.
            self._short(Rule.LEAST_RESERVED, least, worker.memory - self.min_memory - base_memory)
            # Ours.
            or self._short(Rule.HEADROOM, most, self.free)
            or self._short(Rule.LEAST_HEADROOM, least, worker.memory_left - self.unused_min - base_memory)
            # Lotus' second.
            or self._short(Rule.RESERVED, most, worker.memory + worker.swap - spoken_for)
        )

    def _others(self, task: Task) -> Obstacle | None:
        worker = self.worker
        return (
            self._short(Rule.PIDS, _pids(task, worker), worker.pids_left - self.pids)
            or self._short(Rule.DISK, task.requirement.disk, worker.disk_left - self.disk)
            or (Obstacle(Rule.PRESSURE) if worker.pressed else None)
        )

    @staticmethod
    def _short(rule: Rule, need: int, left: int) -> Obstacle | None:
        if need <= left or not need:
            return None
        return Obstacle(rule, need, max(0, left))

    def reason(self, task: Task, obstacle: Obstacle) -> str:
        """The obstacle for people: "needs 512 MiB, headroom 310 MiB under system.slice/carfs.service memory.max"."""
        need, left = size(obstacle.need), size(obstacle.left)
        match obstacle.rule:
            case Rule.TURN:
                return _turn(task, self.kinds[task.kind])
            case Rule.LEAST_RESERVED:
                return f"needs at least {need} of memory, {left} of {size(self.worker.memory)} not reserved"
            case Rule.HEADROOM:
                return f"needs {need}, {self._headroom()}"
            case Rule.LEAST_HEADROOM:
                return f"needs at least {need}, {self._headroom()}"
            case Rule.RESERVED:
                return f"needs {need}, {left} not reserved"
            case Rule.THREADS:
                return f"needs {obstacle.need} of {self.worker.cpus} CPUs, {obstacle.left} free"
            case Rule.PIDS:
                return f"needs {obstacle.need} processes and threads, {obstacle.left} left under pids.max"
            case Rule.DISK:
                return f"needs {need} of disk, {left} left where results go"
            case Rule.ALONE:
                most = size(task.requirement.max_memory)
                return (
                    f"needs {most}, more than there is, so waits until nothing else runs; {self._headroom()}"
                )
            case _:
                return self.worker.pressed

    def _headroom(self) -> str:
        swap = f" and {size(self.worker.swap_left)} of swap" if self.worker.swap_left else ""
        reserved = f", of which {size(self.promised)} reserved for what runs" if self.promised else ""
        is_used_up = not self.worker.memory_left and self.worker.kept_free
        kept = f", besides {size(self.worker.kept_free)} that are kept free" if is_used_up else ""
        return f"headroom {size(self.worker.memory_left)} under {self.worker.memory_by}{swap}{reserved}{kept}"


def memory_limit(task: Task, worker: WorkerView) -> int:
    """What the process of a task that begins on this worker may take: what is reserved, or less if there is less.

    The worker as it was decided on, without the task.
    """
    load = Load(worker)
    room = load.free - load.base_of(task)
    return max(task.requirement.min_memory, min(task.requirement.max_memory, room))


def size(size_bytes: int) -> str:
    """A size for people: "512 MiB", "1.5 GiB"."""
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB"), (_KIB, "KiB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{size_bytes} B"


def _turn(task: Task, count: int) -> str:
    kind = table.KINDS.get(task.kind)
    variable = f"{kind.short if kind else task.kind.upper()}_MAX_CONCURRENT"
    verb = "runs" if count == 1 else "run"
    return f"{count} {task.kind} {verb}, as many as {variable} allows"


def _pids(task: Task, worker: WorkerView) -> int:
    kind = table.KINDS.get(task.kind)
    if kind is not None and not kind.function:
        return 0  # it runs in the agent
    return PROCESS_PIDS + task.requirement.threads(worker.cpus)
