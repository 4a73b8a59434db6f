"""What the scheduler gives tasks to: the agent's own worker processes, or those of a remote worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from agent.resources.facts import Snapshot
from agent.scheduler.tasks import Task
from agent.workers.messages import Params


class Needs(Protocol):
    """Who gets what a task lacks of a transient: `agent.dagstore.transients.Transient`."""

    async def ensure(self, offset: int, length: int) -> None:
        """Returns when the bytes are there; raises ShardError."""

    async def renew(self, offset: int, length: int) -> None:
        """Likewise, but what is there is wrong."""

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        """These will be needed soon; never waits."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a task gave, and what it took."""

    result: Params
    peak_bytes: int  # of memory, as far as it is the process's own; 0: not known


class Executor(Protocol):
    """One worker, in Lotus' sense of the word."""

    id: str  # of its session: another one after it has started anew
    name: str
    kinds: frozenset[str]

    def snapshot(self) -> Snapshot:
        """Its limits now; never waits."""

    def disk_left(self) -> int:
        """Bytes that can be written where results go."""

    def used_bytes(self, task_id: str) -> int:
        """Memory that the process of a running task has now; 0: it has none yet."""

    async def execute(
        self,
        task: Task,
        params: Params,
        progress: Callable[[int, int], None] | None,
        needs: Needs | None,
        *,
        memory_limit: int,
    ) -> Done:
        """Runs one task in a process that may take `memory_limit` bytes, if that can be enforced here (0: no limit).

        Raises WorkerFailed (what the task says), WorkerDied (the process is gone), WorkerLost (the whole worker is),
        WorkerBarred (it cannot do this one: others may). Cancelled, the process was killed when this returns.
        """


@runtime_checkable
class Distant(Protocol):
    """What a worker elsewhere has besides: `agent.workers.remote`."""

    @property
    def note(self) -> str:
        """Why it can do nothing, or could not do something; for people."""

    def set_enabled(self, enabled: bool) -> None:
        """Tells it, for its log; what it is given is decided here."""
