"""The agent's own worker: processes that start when a task needs one, are used again, and end for sure.

Whether a task may begin is decided elsewhere (`agent.scheduler`); what is given to `LocalExecutor.execute` runs now.
"""

from __future__ import annotations

import itertools
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from agent.dagstore.failures import ErrorClass, class_of_os_error
from agent.resources.facts import Snapshot
from agent.scheduler.tasks import Task
from agent.workers.child import Child
from agent.workers.executor import Done, Needs
from agent.workers.failures import WorkerDied, WorkerFailed
from agent.workers.groups import Group, NoGroup
from agent.workers.idle import Idle
from agent.workers.messages import Params

logger = logging.getLogger(__name__)

IDLE_TIMEOUT_S = 10.0


class Groups(Protocol):
    """Where processes get limits of their own: `agent.workers.groups.Groups`."""

    @property
    def reason(self) -> str:
        """Why not, in a sentence; "": they do."""

    def make(self, name: str) -> Group:
        """See there."""


class Unconfined:
    """Nowhere."""

    reason = "nobody asked for it"

    def make(self, name: str) -> Group:
        return NoGroup(self.reason)


class LocalExecutor:
    """An `Executor` over processes of this machine; get one from `open_local`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        name: str,
        kinds: frozenset[str],
        snapshot: Callable[[], Snapshot],
        disk_left: Callable[[], int],
        groups: Groups,
        idle_timeout_s: float,
    ) -> None:
        self.id = str(uuid.uuid4())
        self.name = name
        self.kinds = kinds
        self.snapshot = snapshot
        self.disk_left = disk_left
        self.groups = groups
        self._idle = Idle(nursery, idle_timeout_s)
        self._busy: dict[str, Child] = {}  # by task
        self._numbers = itertools.count(1)

    def used_bytes(self, task_id: str) -> int:
        child = self._busy.get(task_id)
        return 0 if child is None else child.used_bytes()

    async def execute(
        self,
        task: Task,
        params: Params,
        progress: Callable[[int, int], None] | None = None,
        needs: Needs | None = None,
        *,
        memory_limit: int = 0,
    ) -> Done:
        """See `Executor.execute`. Also after WorkerDied, the process was killed when this returns."""
        child = await self._child(memory_limit)
        self._busy[task.id] = child
        try:
            done = await child.call(task.kind, params, progress, needs, task.requirement.io_class)
        except WorkerDied:
            await child.kill()
            raise
        except WorkerFailed:
            self._idle.add(child)
            raise
        except BaseException:
            await child.kill()
            raise
        finally:
            del self._busy[task.id]
        self._idle.add(child)
        return done

    def confinement(self) -> str:
        """Whether each process has a limit of its own, and why not, in a sentence."""
        if not self.groups.reason:
            return "each worker process has a memory limit of its own"
        return f"worker processes have no limits of their own: {self.groups.reason}"

    def level(self, task_id: str) -> str:
        """The group of a running task's process, as `Fact.level`; "": it has no limit of its own."""
        child = self._busy.get(task_id)
        return "" if child is None else child.level

    def pids(self) -> tuple[int, ...]:
        """Of all its processes, sorted."""
        return tuple(sorted((*(child.pid for child in self._busy.values()), *self._idle.pids())))

    def idle(self) -> int:
        """How many processes have nothing to do."""
        return len(self._idle)

    def idle_bytes(self) -> int:
        """Memory that those hold; it goes to the next tasks, or is given back for them."""
        return self._idle.held_bytes()

    def make_room(self, memory_bytes: int, *, keep: int) -> None:
        """Ends idle processes; see `Idle.make_room`."""
        self._idle.make_room(memory_bytes, keep=keep)

    async def trim(self) -> None:
        """Ends all idle processes."""
        await self._idle.end()

    async def _child(self, memory_limit: int) -> Child:
        """An idle process that lives and has not grown beyond the limit, or a new one."""
        if (idle := await self._idle.take(memory_limit)) is not None:
            return idle
        group = self.groups.make(f"worker{next(self._numbers)}")
        try:
            child = await Child.start(group)
        except OSError as error:
            group.remove()
            message = f"cannot start a worker process: {error.strerror or error}"
            is_busy = class_of_os_error(error) is ErrorClass.BUSY  # any other class would be about the data
            raise WorkerFailed(ErrorClass.BUSY if is_busy else ErrorClass.BUG, message) from error
        if not child.limit(memory_limit):
            logger.warning("worker process %d has no limit of its own: %s", child.pid, group.problem)
        return child


@asynccontextmanager
async def open_local(
    *,
    name: str,
    kinds: frozenset[str],
    snapshot: Callable[[], Snapshot],
    disk_left: Callable[[], int],
    groups: Groups | None = None,
    idle_timeout_s: float = IDLE_TIMEOUT_S,
) -> AsyncIterator[LocalExecutor]:
    """A worker for the time of the block; no process of it is left afterwards."""
    async with trio.open_nursery() as nursery:
        executor = LocalExecutor(
            nursery, name=name, kinds=kinds, snapshot=snapshot, disk_left=disk_left,
            groups=groups or Unconfined(), idle_timeout_s=idle_timeout_s,
        )  # fmt: skip
        try:
            yield executor
        finally:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await executor.trim()
