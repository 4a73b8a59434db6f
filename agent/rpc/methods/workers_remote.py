"""`Carfs.Worker…`: how workers of other machines, containers and cgroups join (`carfs worker run`).

In Lotus the miner connects to the worker, which listens (`Filecoin.WorkerConnect`); here the worker connects, so that
one in a container or behind a firewall needs no address of its own.
"""

from __future__ import annotations

from agent.dagstore.failures import ErrorClass, ShardError
from agent.rpc.peers import Permission
from agent.rpc.registry import Params, Values, method, stream
from agent.rpc.services import Services
from agent.workers.remote.joining import RemoteWorkers
from agent.workers.remote.messages import Hello, Report, ToWorker


class JoinParams(Hello, Params, frozen=True, forbid_unknown_fields=False):
    """Who joins."""


class ReportParams(Report, Params, frozen=True, forbid_unknown_fields=False):
    """What it has to say."""


@stream("Carfs.WorkerJoin", Permission.ADMIN, gives=ToWorker)
async def worker_join(services: Services, params: JoinParams) -> Values:
    """Joins a worker, and gives what it is to do, for as long as it reports."""
    return _remote(services).joined(params)


@method("Carfs.WorkerReport", Permission.ADMIN)
async def worker_report(services: Services, params: ReportParams) -> None:
    """Takes what a worker that has joined has to say; it is given up when this does not come."""
    _remote(services).report(params)


def _remote(services: Services) -> RemoteWorkers:
    if services.remote is None:
        raise ShardError(ErrorClass.BUSY, "this agent takes no workers yet, or any more; try again later")
    return services.remote
