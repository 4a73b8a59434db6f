"""What the scheduler does, as it is shown: `carfs status`, `carfs top`, `.carfs/tasks.json`, Lotus' `WorkerJobs`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from agent.resources.facts import Snapshot
from agent.scheduler.overrides import Overrides
from agent.scheduler.tasks import Phase, Task, Wait, WorkerView

RUNNING = 0
PREPARING = 1
ASSIGNED = 2  # or more: so many are before it


@dataclass(frozen=True, slots=True)
class Job:
    """One task that has not ended. Sizes in bytes."""

    task: Task
    phase: Phase | None  # None: it waits
    run_wait: int  # Lotus' RunWait: 0 running, 1 preparing, 2 and more its place in the queue + 1
    queued_at: str  # RFC 3339
    started_at: str  # likewise; "" while it waits
    worker: str = ""  # the id of the worker's session
    hostname: str = ""
    done: int = 0
    total: int = 0
    used_bytes: int = 0  # memory of its process now
    limit_bytes: int = 0  # enforced on it; 0: none
    waiting: Wait | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What tasks of one kind and size were seen to take."""

    kind: str
    size_class: str  # of `scheduler.table`
    peak_bytes: int
    tasks: int  # that this is from
    size_bytes: int = 0  # of the data of the one that had this peak; 0: not known


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is, in numbers that cost nothing to get."""

    busy: int  # tasks of the agent's own worker
    idle: int  # its processes that have nothing to do
    waiting: int  # tasks, for any worker
    limit: int  # processes of its own at once


@dataclass(frozen=True, slots=True)
class Tally:
    """Tasks that have not ended, in numbers."""

    running: Mapping[tuple[str, Phase], int]  # by kind and phase
    waiting: Mapping[str, int]  # by kind
    hopeless: int  # of those that wait


class Scheduling(Protocol):
    """What shows and steers the scheduler: `agent.scheduler.scheduler.Scheduler`. None of it waits."""

    def snapshot(self) -> Snapshot:
        """The limits of the agent's own worker."""

    def workers(self) -> tuple[WorkerView, ...]:
        """All workers that are connected, the agent's own first."""

    def jobs(self, waiting: int | None = None) -> tuple[Job, ...]:
        """All tasks that have not ended: running ones first, then those that wait, in the order of the queue; of these,
        if `waiting` is given, the first so many, which costs little however many there are."""

    def tally(self) -> Tally:
        """How many tasks there are, which costs little however many that is."""

    def counts(self) -> Counts:
        """How much of it there is."""

    def estimates(self) -> tuple[Estimate, ...]:
        """What has been learned."""

    def overrides(self) -> Overrides:
        """What the environment says of what tasks need."""

    def groups(self) -> str:
        """Whether each process of the agent's own worker has a limit of its own, and why not, in a sentence."""

    def abort(self, task_id: str) -> None:
        """Ends a running task, which fails as cancelled. Raises ShardError(not-found)."""

    def remove(self, task_id: str) -> None:
        """Takes a waiting task out of the queue; it fails as cancelled. Raises ShardError(not-found | busy)."""

    def set_enabled(self, worker: str, enabled: bool) -> None:
        """A worker that is not enabled gets nothing new; what runs goes on. Raises ShardError(not-found)."""
