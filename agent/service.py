"""The agent as a process: what starts after what, and how it stops."""

from __future__ import annotations

import faulthandler
import gc
import importlib.metadata
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TextIO

import trio

from agent import config as configuration
from agent import logs, systemd
from agent.catalogue import Catalogue
from agent.config import Config, ConfigError
from agent.dagstore.events import Hub
from agent.dagstore.failures import ShardError
from agent.dagstore.leases import Leases
from agent.dagstore.mounts.environment import open_environment
from agent.dagstore.opening import open_dagstore
from agent.dagstore.scrub.opening import open_scrubber
from agent.dagstore.scrub.repairer import Repairer
from agent.dagstore.scrub.replicas import Replicas
from agent.dagstore.scrub.schedule import Load
from agent.dagstore.scrub.shards import DagstoreShards, annotated
from agent.doctor.consultation import consult, live_of
from agent.repository import NoHome, Repository, RepositoryLocked, locked
from agent.rpc.access import Rules
from agent.rpc.application import application
from agent.rpc.binds import Bind, BindError, TcpBind, UnixBind
from agent.rpc.http import serve
from agent.rpc.methods import Services
from agent.rpc.tokens import Tokens
from agent.workers import WorkerPool, open_pool

logger = logging.getLogger(__name__)

CannotStart = (ConfigError, NoHome, RepositoryLocked, BindError, ShardError, OSError)
"""What `main` raises if the agent cannot start; their text is for the operator."""


def main(config_file: Path | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Runs the agent until it is told to stop; gives the exit code. Raises one of `CannotStart`."""
    _open_standard_descriptors()
    repository = Repository.from_environment(environ)
    repository.create_top()
    path = config_file if config_file is not None else repository.config
    config = configuration.load(path, required=config_file is not None, environ=environ)
    repository = replace(repository, dagstore=config.dagstore.root_dir)
    repository.create()
    logs.set_up(config.log.level)
    # What holds again when `run` has ended: one more signal does not cut short what is left. (A handler, since what is
    # ignored is ignored by workers too.)
    for number in _stop_signals():
        signal.signal(number, lambda _number, _frame: None)
    try:
        trio.run(run, repository, config)
    except BaseExceptionGroup as group:
        raise _sole(group) from None
    return 0


async def run(
    repository: Repository, config: Config, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """The agent: everything starts in this order and stops in the reverse one."""
    stop = trio.Event()
    with (
        trio.open_signal_receiver(*_stop_signals()) as stop_signals,
        trio.open_signal_receiver(signal.SIGUSR1) as dump_signals,
    ):
        faulthandler.register(signal.SIGUSR1, all_threads=True, chain=True)
        async with AsyncExitStack() as stack:
            nursery = await stack.enter_async_context(trio.open_nursery())
            nursery.start_soon(_stop_on_signal, stop_signals, stop)
            nursery.start_soon(_dump_on_signal, dump_signals, sys.stderr)
            stack.callback(nursery.cancel_scope.cancel)
            stack.enter_context(locked(repository))
            store = stack.enter_context(_catalogue(repository, config))
            hub = Hub(buffer=config.rpc.event_buffer)
            workers = open_pool(limit=config.worker_count(), idle_timeout_s=config.workers.idle_timeout_s)
            pool = await stack.enter_async_context(workers)
            environment = await stack.enter_async_context(open_environment(config.mounts, repository.path))
            # Of its own, so that a new shard is found at once although others are being indexed for hours.
            inverting = open_pool(limit=1, idle_timeout_s=config.workers.idle_timeout_s)
            dagstore = await stack.enter_async_context(
                open_dagstore(
                    store=store,
                    workers=pool,
                    hub=hub,
                    index_directory=repository.indices,
                    transients_directory=repository.transients,
                    settings=config.dagstore,
                    environment=environment,
                    inverted_directory=repository.inverted,
                    inverting=await stack.enter_async_context(inverting),
                )
            )
            shards = DagstoreShards(dagstore, store)
            scrubber = await stack.enter_async_context(
                open_scrubber(
                    shards=shards, store=store, workers=pool, load=partial(_load, pool), hub=hub,
                    repairer=Repairer(Replicas(environment, repository.indices), repository.repairs),
                    index_directory=repository.indices, config=config.scrub,
                )
            )  # fmt: skip
            dagstore.annotate = partial(annotated, scrubber=scrubber)
            services = Services(
                dagstore,
                Leases(dagstore),
                pool,
                repository.path,
                _version(),
                stop,
                time.monotonic(),
                Tokens(repository.token_secret),
                verifier=scrubber,
                doctor=partial(
                    consult,
                    repository,
                    dagstore,
                    partial(live_of, dagstore, scrubber),
                    scrub_interval_s=config.scrub.interval_days * 86400,
                ),
            )
            stop_serving = trio.Event()
            serving = await stack.enter_async_context(trio.open_nursery())
            rules = Rules(config.admin_gid(), config.rpc.allowed_hosts, config.rpc.allowed_origins)
            _, *addresses = await serving.start(
                partial(serve, grace_s=config.rpc.stop_grace_s),
                application(services, hub, rules),
                [_bind(repository, config), *_tcp_binds(config)],
                stop_serving,
            )
            services.addresses.extend(map(str, addresses))
            for address in addresses:
                logger.info("listening on %s for clients with a token", address)
            logger.info("ready: %s, %d workers", repository.socket, config.worker_count())
            gc.freeze()  # modules and shards stay: a full collection would look at them for 50 ms each time
            systemd.notify("READY=1")
            task_status.started()
            await stop.wait()
            systemd.notify("STOPPING=1")
            dagstore.stop()
            hub.close()
            stop_serving.set()
    logger.info("stopped")


def _catalogue(repository: Repository, config: Config) -> closing[Catalogue]:
    return closing(Catalogue.open(repository.catalogue, history_kept=config.dagstore.history_kept))


def _load(pool: WorkerPool) -> Load:
    found = pool.statistics()
    return Load(found.busy, found.waiting, found.limit)


def _bind(repository: Repository, config: Config) -> UnixBind:
    """The socket to listen on; if config moves it, a link at the usual place leads there."""
    usual = repository.socket
    path = Path(os.path.normpath(repository.path / (config.rpc.socket or usual)))
    if usual.is_symlink() or (usual.is_socket() and path != usual):
        usual.unlink()
    if path != usual:
        if usual.exists():
            raise BindError(f"{usual} is there and is not a socket; remove it")
        usual.symlink_to(path)
    return UnixBind(path, mode=int(config.rpc.socket_mode, 8))


def _tcp_binds(config: Config) -> list[Bind]:
    """The addresses to listen on; raises ConfigError."""
    try:
        binds = [TcpBind.parse(text) for text in config.rpc.listen]
    except ValueError as error:
        raise ConfigError(f"rpc.listen: {error}") from error
    for bind in binds:
        if not bind.is_loopback:
            logger.warning(
                "tokens go to %s in clear: put a proxy with TLS in front, or listen on loopback", bind
            )
    return list(binds)


def _open_standard_descriptors() -> None:
    """Opens those of 0, 1 and 2 that are closed: else the next file, the catalogue perhaps, would get the number, and
    workers, whose stderr is ours, would write their tracebacks into it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _stop_signals() -> tuple[signal.Signals, ...]:
    """SIGHUP, which comes when the terminal goes, is one of them unless nohup(1) has said to ignore it."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return (signal.SIGTERM, signal.SIGINT, *(() if ignored else (signal.SIGHUP,)))


def _version() -> str:
    try:
        return importlib.metadata.version("carfs")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return "0"


async def _stop_on_signal(signals: AsyncIterator[int], stop: trio.Event) -> None:
    async for number in signals:
        logger.info("%s: stopping", signal.Signals(number).name)
        stop.set()


async def _dump_on_signal(signals: AsyncIterator[int], out: TextIO) -> None:
    async for _ in signals:
        print("\n".join(_task_lines(trio.lowlevel.current_root_task(), 0)), file=out, flush=True)


def _task_lines(task: trio.lowlevel.Task | None, depth: int) -> list[str]:
    """A task and its children, each with where it waits."""
    if task is None:
        return []
    indent = "  " * depth
    lines = [f"{indent}task {task.name}"]
    for frame, line in task.iter_await_frames():
        lines.append(f"{indent}  {frame.f_code.co_filename}:{line} {frame.f_code.co_name}")
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            lines += _task_lines(child, depth + 1)
    return lines


def _sole(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error in nurseries' groups of one; several stay a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
