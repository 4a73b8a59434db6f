"""What is done and what waits, and ways to end it, with Lotus' `WorkerJobs`, `SealingSchedDiag` and their like."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import msgspec
import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.records import now_text
from agent.resources.document import Limits
from agent.rpc.peers import Permission
from agent.rpc.registry import NoParams, Params, Values, method, stream
from agent.rpc.sealing import CallId, SchedDiag, WorkerJob, jobs_by_worker
from agent.rpc.services import Services
from agent.scheduler.document import Tasks

Limit = Annotated[int, msgspec.Meta(ge=0)]


class TasksParams(Params, frozen=True):
    """`Limit`: so many of the list, at most; 0: all."""

    limit: Limit = 0


class WatchParams(Params, frozen=True):
    """`Interval`: seconds between two values."""

    interval: Annotated[float, msgspec.Meta(ge=0.05, le=3600)] = 1.0
    limit: Limit = 0


class TaskParams(Params, frozen=True):
    """A task, by its id."""

    id: str = msgspec.field(name="ID")


class AbortParams(Params, frozen=True):
    """A task that runs, as Lotus names it; its id alone does."""

    call: CallId | str


class RemoveParams(Params, frozen=True):
    """A task that waits."""

    sched_id: str


class SchedDiagParams(Params, frozen=True):
    """`DoSched` changes nothing: what can be begun is begun as soon as it can."""

    do_sched: bool = False


class Watched(msgspec.Struct, frozen=True, rename="pascal"):
    """Limits and tasks at one moment."""

    limits: Limits
    tasks: Tasks


@method("Carfs.Tasks", Permission.READ)
async def tasks(services: Services, params: TasksParams) -> Tasks:
    """The workers, what they do, and what waits and why."""
    return Tasks.of(services.scheduler, now_text(), params.limit)


@stream("Carfs.WatchTasks", Permission.READ, gives=Watched)
async def watch_tasks(services: Services, params: WatchParams) -> Values:
    """The same with the limits, again and again, for ever."""
    scheduling = services.scheduler

    async def watch() -> AsyncGenerator[Watched, None]:
        while True:
            limits = Limits.of(scheduling.snapshot())
            yield Watched(limits, Tasks.of(scheduling, now_text(), params.limit))
            await trio.sleep(params.interval)

    return aclosing(watch())


@method("Carfs.AbortTask", Permission.ADMIN)
async def abort_task(services: Services, params: TaskParams) -> None:
    """Ends a task, whether it runs or waits; whoever waits for it is told that it was cancelled."""
    scheduling = services.scheduler
    try:
        scheduling.abort(params.id)
    except ShardError as error:
        if error.error_class is not ErrorClass.NOT_FOUND:
            raise
        scheduling.remove(params.id)


@method("Filecoin.WorkerJobs", Permission.ADMIN)
async def worker_jobs(services: Services, params: NoParams) -> dict[str, list[WorkerJob]]:
    """All tasks that have not ended, by the worker's id; those that wait have the id of zeros."""
    return jobs_by_worker(services.scheduler.jobs())


@method("Filecoin.SealingSchedDiag", Permission.ADMIN)
async def sealing_sched_diag(services: Services, params: SchedDiagParams) -> SchedDiag:
    """The queue, in its order, with what each task waits for."""
    return SchedDiag.of(services.scheduler.jobs())


@method("Filecoin.SealingAbort", Permission.ADMIN)
async def sealing_abort(services: Services, params: AbortParams) -> None:
    """Ends a task that runs."""
    services.scheduler.abort(params.call if isinstance(params.call, str) else params.call.id)


@method("Filecoin.SealingRemoveRequest", Permission.ADMIN)
async def sealing_remove_request(services: Services, params: RemoveParams) -> None:
    """Takes a task that waits out of the queue."""
    services.scheduler.remove(params.sched_id)
