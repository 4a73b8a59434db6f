"""The agent itself: its version, what it does now, its end."""

from __future__ import annotations

import logging
import os
import time

import msgspec
import trio

from agent.dagstore.dagstore import Progress
from agent.dagstore.inverted.index import Statistics
from agent.dagstore.lifecycle import ShardState
from agent.dagstore.records import now_text
from agent.dagstore.scrub.scrubber import ScrubStatistics
from agent.dagstore.transients import Statistics as TransientStatistics
from agent.resources.document import Limits
from agent.rpc.counting import counted
from agent.rpc.exposition import resident_bytes
from agent.rpc.filters import Filter
from agent.rpc.peers import Permission
from agent.rpc.registry import NoParams, method
from agent.rpc.services import Services
from agent.scheduler.document import Tasks

logger = logging.getLogger(__name__)

MINER_API_VERSION = 1 << 16 | 5 << 8  # of Lotus' storage miner API, whose method names these are

TASKS_TOLD = 20  # `Carfs.Tasks` has all


class Version(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' APIVersion."""

    version: str
    api_version: int = msgspec.field(name="APIVersion")
    block_delay: int = 0


class Workers(msgspec.Struct, frozen=True, rename="pascal"):
    """The processes that do what is heavy."""

    busy: int
    idle: int
    waiting: int  # tasks
    limit: int


class ClientLeases(msgspec.Struct, frozen=True, rename="pascal"):
    """One that holds a session."""

    client: str
    leases: int


class Origin(msgspec.Struct, frozen=True, rename="pascal"):
    """A host or a folder that has failed since it last answered."""

    origin: str
    state: str  # "closed": it is asked; "open": it is left alone; "half-open": one asks, to see how it is
    failures: int  # in a row
    retry_in_seconds: float  # 0: now


class Status(msgspec.Struct, frozen=True, rename="pascal"):
    """What the agent does now; sizes in bytes, times in seconds."""

    version: str
    pid: int
    path: str
    uptime_seconds: float
    memory_bytes: int
    addresses: tuple[str, ...]  # of TCP
    shards: dict[str, int]
    errors: dict[str, int]  # shards whose data or index is not well, by class
    imports: dict[str, int]  # by state
    indexing: list[Progress]
    fetching: list[Progress]  # remote shards whose data is wanted here as a whole
    inverted_index: Statistics
    transients: TransientStatistics  # local copies of remote data
    scrub: ScrubStatistics | None  # null: nothing is verified here
    unhealthy_origins: list[Origin]
    workers: Workers
    clients: list[ClientLeases]
    limits: Limits
    tasks: Tasks  # the first ones


@method("Filecoin.Version", Permission.READ)
async def version(services: Services, params: NoParams) -> Version:
    """The version of the agent, and of Lotus' interface that it has."""
    return Version(f"carfs-{services.version}", MINER_API_VERSION)


@method("Carfs.Status", Permission.READ)
async def status(services: Services, params: NoParams) -> Status:
    """What the agent does now."""
    own = services.scheduler.counts()
    counts = await counted(services, Filter())
    states = {name: counts.states[name] for name in map(_name, ShardState) if name in counts.states}
    return Status(
        version=services.version,
        pid=os.getpid(),
        path=str(services.directory),
        uptime_seconds=round(time.monotonic() - services.started, 3),
        memory_bytes=resident_bytes(),
        addresses=tuple(services.addresses),
        shards=states,
        errors=counts.error_classes,
        imports={} if services.importing is None else services.importing.imports.counts(),
        indexing=services.dagstore.indexing(),
        fetching=services.dagstore.fetching(),
        inverted_index=services.dagstore.inverted.statistics(),
        transients=services.dagstore.transients(),
        scrub=None if services.verifier is None else services.verifier.statistics(),
        unhealthy_origins=_unhealthy(services),
        workers=Workers(own.busy, own.idle, own.waiting, own.limit),
        clients=[ClientLeases(client, leases) for client, leases in services.leases.held()],
        limits=Limits.of(services.scheduler.snapshot()),
        tasks=Tasks.of(services.scheduler, now_text(), TASKS_TOLD),
    )


@method("Carfs.Shutdown", Permission.ADMIN)
async def shutdown(services: Services, params: NoParams) -> None:
    """Stops the agent."""
    logger.info("asked to stop over RPC")
    services.stop.set()


def _unhealthy(services: Services) -> list[Origin]:
    now_s = trio.current_time()
    return [
        Origin(origin, one.state.value, one.failures, round(max(0.0, one.until_s - now_s), 1))
        for origin, one in sorted(services.dagstore.unhealthy_origins().items())
    ]


def _name(state: ShardState) -> str:
    return state.value
