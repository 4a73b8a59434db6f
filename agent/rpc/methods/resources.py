"""What limits the agent and its workers, with Lotus' `WorkerStats`; and the same for Prometheus."""

from __future__ import annotations

from agent.resources.document import ResourcesShown
from agent.resources.explaining import lines
from agent.rpc.exposition import text_of
from agent.rpc.peers import Permission
from agent.rpc.registry import NoParams, Params, method
from agent.rpc.sealing import WorkerStats
from agent.rpc.services import Services
from agent.scheduler.document import EstimateShown


class EnableParams(Params, frozen=True):
    """A worker, by the id of its session."""

    worker: str
    enabled: bool


@method("Carfs.Resources", Permission.READ)
async def resources(services: Services, params: NoParams) -> ResourcesShown:
    """What limits the agent: what binds, every fact that this follows from, and the same in lines for people."""
    snapshot = services.scheduler.snapshot()
    return ResourcesShown.explained(snapshot, lines(snapshot), services.scheduler.groups())


@method("Carfs.Estimates", Permission.READ)
async def estimates(services: Services, params: NoParams) -> list[EstimateShown]:
    """What tasks were seen to take, by kind and size."""
    return [EstimateShown.of(one) for one in services.scheduler.estimates()]


@method("Carfs.SetWorkerEnabled", Permission.ADMIN)
async def set_worker_enabled(services: Services, params: EnableParams) -> None:
    """Says whether a worker is given new tasks; what it does already goes on."""
    services.scheduler.set_enabled(params.worker, params.enabled)


@method("Carfs.Metrics", Permission.READ)
async def metrics(services: Services, params: NoParams) -> str:
    """What `/metrics` gives: the agent's metrics in Prometheus' text format."""
    return (await text_of(services)).decode()


@method("Filecoin.WorkerStats", Permission.ADMIN)
async def worker_stats(services: Services, params: NoParams) -> dict[str, WorkerStats]:
    """All workers by the ids of their sessions: what limits them, and what their tasks were given of that."""
    overrides = services.scheduler.overrides()
    return {view.id: WorkerStats.of(view, overrides) for view in services.scheduler.workers()}
