"""The parts of an agent that work behind its interface, in the order in which they start; `service` opens them."""

from __future__ import annotations

import importlib.metadata
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio

from agent.catalogue import Catalogue
from agent.config import Config
from agent.dagstore.dagstore import Dagstore
from agent.dagstore.events import Hub
from agent.dagstore.leases import Leases
from agent.dagstore.mounts.environment import Environment, open_environment
from agent.dagstore.opening import open_dagstore
from agent.dagstore.scrub.opening import open_scrubber
from agent.dagstore.scrub.repairer import Repairer
from agent.dagstore.scrub.replicas import Replicas
from agent.dagstore.scrub.scrubber import Scrubber
from agent.dagstore.scrub.shards import DagstoreShards, annotated
from agent.doctor.consultation import consult, live_of
from agent.export.exporting import Exporter
from agent.export.holders import Holders
from agent.gateway.application import Serving, open_serving
from agent.imports.opening import Importing, open_imports
from agent.market.deals import Deals
from agent.market.migrating import Migration
from agent.market.opening import open_deals
from agent.market.pieces import DealPieces
from agent.network.kernel import Announcing, open_link
from agent.network.link import Link
from agent.repository import Repository
from agent.resources import reading
from agent.resources.files import MachineFiles
from agent.resources.monitor import open_monitor
from agent.retrievals.opening import open_retrievals
from agent.retrievals.retrievals import Retrievals
from agent.rpc.methods import Services
from agent.rpc.tokens import Tokens
from agent.scheduler.order import Assigner, Policy
from agent.scheduler.overrides import NONE, Overrides
from agent.scheduler.scheduler import Scheduler, Settings, open_scheduler
from agent.scheduler.table import KINDS
from agent.transfer.sources.means import open_means
from agent.workers.groups import open_groups
from agent.workers.local import open_local
from agent.workers.remote import sights
from agent.workers.remote.joining import RemoteWorkers
from carlib.cid import Cid


@dataclass(frozen=True, slots=True)
class Parts:
    """What is open."""

    services: Services  # all that answers calls
    hub: Hub

    def stop(self) -> None:
        """Refuses what is new and answers all that wait; the parts end with their block."""
        self.services.dagstore.stop()
        if self.services.importing is not None:
            self.services.importing.imports.stop()
        if self.services.deals is not None:
            self.services.deals.stop()
        if self.services.retrievals is not None:
            self.services.retrievals.stop()
        self.hub.close()


@asynccontextmanager
async def open_parts(
    repository: Repository, config: Config, stop: trio.Event, *, overrides: Overrides = NONE
) -> AsyncIterator[Parts]:
    """Everything starts in this order and stops in the reverse one; `stop` is set by a call that ends the agent."""
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        store = stack.enter_context(open_catalogue(repository, config))
        hub = Hub(buffer=config.rpc.event_buffer)
        workers = await stack.enter_async_context(_working(repository, config, overrides, store))
        environment = await stack.enter_async_context(open_environment(config.mounts, repository.path))
        deals = Deals(store.deals, time.time_ns, accepts=config.market.accept)
        environment = replace(environment, pieces=DealPieces(deals.of_piece, environment.pieces))
        dagstore = await stack.enter_async_context(
            open_dagstore(
                store=store,
                workers=workers,
                hub=hub,
                index_directory=repository.indices,
                transients_directory=repository.transients,
                settings=config.dagstore,
                environment=environment,
                inverted_directory=repository.inverted,
            )
        )
        importing = await stack.enter_async_context(
            open_imports(
                store=store.imports,
                workers=workers,
                hub=hub,
                directory=repository.imports,
                staging=repository.staging,
                settings=config.imports,
            )
        )
        scrubber = await stack.enter_async_context(
            _scrubber(repository, config, store, workers, environment, hub, dagstore)
        )
        dagstore.annotate = partial(annotated, scrubber=scrubber)
        link = await stack.enter_async_context(open_link())
        serving, retrievals = await stack.enter_async_context(
            _transferring(repository, config, store, hub, environment, dagstore, importing, workers, link)
        )
        holders = Holders(dagstore, importing.imports, workers, retrievals)
        sealing = await stack.enter_async_context(
            open_deals(
                deals,
                store=store.deals,
                config=config.market,
                dagstore=dagstore,
                retrievals=retrievals,
                exporter=Exporter(holders, workers, importing.imports.places, importing.imports.reserve),
                workers=workers,
                staging=repository.staging,
                home=repository.path,
            )
        )
        services = Services(
            dagstore,
            Leases(dagstore, importing.imports, retrievals),
            workers,
            repository.path,
            _version(),
            stop,
            started,
            Tokens(repository.token_secret),
            verifier=scrubber,
            importing=importing,
            serving=serving,
            retrievals=retrievals,
            announcing=Announcing(
                link, config.gateway.listen, "https" if config.gateway.tls_certificate else "http"
            ),
            deals=deals,
            sealing=sealing,
            migration=_migration(repository, config, dagstore, deals),
            metrics=workers.metrics,
            workers=workers,
            doctor=partial(
                consult,
                repository,
                dagstore,
                partial(live_of, dagstore, scrubber),
                scrub_interval_s=config.scrub.interval_days * 86400,
            ),
            remote=_remote(repository, config, workers),
        )
        yield Parts(services, hub)


@asynccontextmanager
async def _transferring(
    repository: Repository,
    config: Config,
    store: Catalogue,
    hub: Hub,
    environment: Environment,
    dagstore: Dagstore,
    importing: Importing,
    workers: Scheduler,
    link: Link,
) -> AsyncIterator[tuple[Serving, Retrievals]]:
    """Data on their way out and in. Retrievals take what is here from the others, and are themselves a place to take
    from when they are done."""
    holders = Holders(dagstore, importing.imports, workers)
    async with (
        open_serving(config.gateway, repository.path, dagstore, holders) as serving,
        open_means(config.retrieval, environment.tls, ipfs=config.ipfs) as means,
        open_retrievals(
            store=store.retrievals,
            hub=hub,
            directory=repository.retrievals,
            means=means,
            link=link,
            local=serving.local,
            config=config.retrieval,
        ) as retrievals,
    ):
        holders.retrievals = retrievals
        yield serving, retrievals


def _migration(repository: Repository, config: Config, dagstore: Dagstore, deals: Deals) -> Migration:
    directory = config.mounts.piece_directory
    pieces = repository.path / directory if directory else None
    return Migration(
        dagstore,
        repository.path / repository.dagstore,
        pieces,
        lambda piece: any(row.placed is not None for row in deals.of_piece(Cid.parse(piece))),
    )


def open_catalogue(repository: Repository, config: Config) -> closing[Catalogue]:
    """The catalogue for the time of a block; raises ShardError."""
    return closing(Catalogue.open(repository.catalogue, history_kept=config.dagstore.history_kept))


@asynccontextmanager
async def _working(
    repository: Repository, config: Config, overrides: Overrides, store: Catalogue
) -> AsyncIterator[Scheduler]:
    """All that heavy work needs: groups first, since that may move the agent into another one, whose limits are read
    then; the workers' processes, and who gives them tasks."""
    groups = open_groups(setting=config.resources.child_groups)
    with closing(groups):
        async with (
            open_monitor(
                partial(reading.read, MachineFiles(), config.resources),
                interval_s=config.resources.interval_s,
                pressure_percent=config.resources.pressure,
            ) as monitor,
            open_local(
                name=socket.gethostname(),
                kinds=frozenset(KINDS),
                snapshot=monitor.snapshot,
                disk_left=partial(_disk_left, repository.path / repository.dagstore),
                groups=groups,
                idle_timeout_s=config.workers.idle_timeout_s,
            ) as local,
            open_scheduler(
                local, store=store, refresh=monitor.fresh, settings=scheduler_settings(config, overrides)
            ) as scheduler,
        ):
            monitor.subscribe(scheduler.poke)
            yield scheduler


def scheduler_settings(config: Config, overrides: Overrides) -> Settings:
    scheduler = config.scheduler
    return Settings(
        policy=Policy(
            Assigner(scheduler.assigner), ageing_s=scheduler.ageing_s, patience_s=scheduler.patience_s
        ),
        overrides=overrides,
        limit=config.workers.count,
        reserve=config.resources.reserve,
        pressure=config.resources.pressure,
        interval_s=config.resources.interval_s,
    )


def _remote(repository: Repository, config: Config, scheduler: Scheduler) -> RemoteWorkers:
    """Takes in workers of other machines, which have to see this repository; raises OSError."""
    return RemoteWorkers(
        scheduler, repository.path, repository.path / repository.dagstore, sights.write_proof(repository.path),
        version=_version(), heartbeat_s=config.workers.heartbeat_s,
    )  # fmt: skip


def _disk_left(folder: Path) -> int:
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


@asynccontextmanager
async def _scrubber(
    repository: Repository,
    config: Config,
    store: Catalogue,
    workers: Scheduler,
    environment: Environment,
    hub: Hub,
    dagstore: Dagstore,
) -> AsyncIterator[Scrubber]:
    repairer = Repairer(Replicas(environment, repository.indices), repository.repairs)
    async with open_scrubber(
        shards=DagstoreShards(dagstore, store), store=store, workers=workers, hub=hub,
        repairer=repairer, index_directory=repository.indices, config=config.scrub,
    ) as scrubber:  # fmt: skip
        yield scrubber


def _version() -> str:
    try:
        return importlib.metadata.version("carfs")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return "0"
