"""The agent as a process: what starts after what, and how it stops."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TextIO

import trio

from agent import allocator, logs, systemd
from agent import config as configuration
from agent.config import Config, ConfigError
from agent.dagstore.failures import ShardError
from agent.gateway.tls import server_tls
from agent.parts import Parts, open_parts
from agent.repository import NoHome, Repository, RepositoryLocked, locked
from agent.rpc.access import Rules
from agent.rpc.application import application
from agent.rpc.binds import Bind, BindError, Given, TcpBind, UnixBind, address_of, taken
from agent.rpc.http import serve
from agent.scheduler.overrides import NONE, Overrides

logger = logging.getLogger(__name__)

CannotStart = (ConfigError, NoHome, RepositoryLocked, BindError, ShardError, OSError)
"""What `main` raises if the agent cannot start; their text is for the operator."""


def main(config_file: Path | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Runs the agent until it is told to stop; gives the exit code. Raises one of `CannotStart`."""
    _open_standard_descriptors()
    allocator.return_big_buffers()
    repository = Repository.from_environment(environ)
    repository.create_top()
    path = config_file if config_file is not None else repository.config
    config = configuration.load(path, required=config_file is not None, environ=environ)
    overrides = configuration.resource_overrides(environ)
    repository = replace(repository, dagstore=config.dagstore.root_dir)
    repository.create()
    logs.set_up(config.log.level)
    for warning in overrides.warnings:
        logger.warning("%s", warning)
    # What holds again when `run` has ended: one more signal does not cut short what is left. (A handler, since what is
    # ignored is ignored by workers too.)
    for number in _stop_signals():
        signal.signal(number, lambda _number, _frame: None)
    try:
        trio.run(partial(run, overrides=overrides), repository, config)
    except BaseExceptionGroup as group:
        raise _sole(group) from None
    return 0


async def run(
    repository: Repository,
    config: Config,
    *,
    overrides: Overrides = NONE,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The agent: everything starts in this order and stops in the reverse one."""
    stop = trio.Event()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_heeding_signals(stop))
        stack.enter_context(locked(repository))
        parts = await stack.enter_async_context(open_parts(repository, config, stop, overrides=overrides))
        stop_serving = await stack.enter_async_context(_serving(repository, config, parts))
        logger.info("ready: %s", repository.socket)
        gc.freeze()  # modules and shards stay: a full collection would look at them for 50 ms each time
        systemd.notify("READY=1")
        await stack.enter_async_context(_beating(parts))
        task_status.started()
        await stop.wait()
        systemd.notify("STOPPING=1")
        parts.stop()
        stop_serving.set()
    logger.info("stopped")


@asynccontextmanager
async def _heeding_signals(stop: trio.Event) -> AsyncIterator[None]:
    """Signals set `stop`, or have all stacks written to stderr."""
    with (
        trio.open_signal_receiver(*_stop_signals()) as stop_signals,
        trio.open_signal_receiver(signal.SIGUSR1) as dump_signals,
    ):
        faulthandler.register(signal.SIGUSR1, all_threads=True, chain=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, stop_signals, stop)
            nursery.start_soon(_dump_on_signal, dump_signals, sys.stderr)
            yield
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def _beating(parts: Parts) -> AsyncIterator[None]:
    """Tells systemd, if it wants to know, that the event loop goes on, and what it does; from a task of it, so that a
    loop that is stuck is silent."""
    span_s = systemd.watchdog_s()
    async with trio.open_nursery() as nursery:
        if span_s is not None:
            nursery.start_soon(_beat, parts, span_s / 3)
        yield
        nursery.cancel_scope.cancel()


async def _beat(parts: Parts, interval_s: float) -> None:
    while True:
        services = parts.services
        tasks, headroom = services.scheduler.counts(), services.scheduler.snapshot().memory.headroom
        shards = len(services.dagstore.list_keys())
        left = "" if headroom is None else f", headroom {headroom >> 20} MiB"
        systemd.notify("WATCHDOG=1", f"STATUS={shards} shards, {tasks.busy + tasks.waiting} tasks{left}")
        await trio.sleep(interval_s)


@asynccontextmanager
async def _serving(repository: Repository, config: Config, parts: Parts) -> AsyncIterator[trio.Event]:
    """Answers calls for the time of the block; set the event before it ends."""
    stop_serving = trio.Event()
    given: Given = {address_of(one): one for one in systemd.given_sockets()}
    calls: list[Bind] = [_bind(repository, config), *_token_binds(config)]
    async with trio.open_nursery() as nursery:
        rules = Rules(config.admin_gid(), config.rpc.allowed_hosts, config.rpc.allowed_origins)
        _, *addresses = await nursery.start(
            partial(serve, grace_s=config.rpc.stop_grace_s),
            application(parts.services, parts.hub, rules),
            [taken(bind, given) for bind in calls],
            stop_serving,
        )
        parts.services.addresses.extend(map(str, addresses))
        for address in addresses:
            logger.info("listening on %s for clients with a token", address)
        await _serve_gateway(nursery, config, parts, given, stop_serving)
        for bind, left in given.items():
            logger.warning("systemd listens on %s for us, which is no address of the configuration", bind)
            left.close()
        yield stop_serving


async def _serve_gateway(
    nursery: trio.Nursery, config: Config, parts: Parts, given: Given, stop_serving: trio.Event
) -> None:
    """Data for whoever asks, where that is configured."""
    serving = parts.services.serving
    binds = [taken(bind, given) for bind in _tcp_binds("gateway.listen", config.gateway.listen)]
    if serving is None or not binds:
        return
    tls = await trio.to_thread.run_sync(server_tls, config.gateway, parts.services.directory)
    addresses = await nursery.start(
        partial(serve, grace_s=config.rpc.stop_grace_s, tls=tls), serving.application(), binds, stop_serving
    )
    scheme = "http" if tls is None else "https"
    for address in addresses:
        serving.addresses.append(f"{scheme}://{address}")
        logger.info("data are served at %s://%s, to anybody", scheme, address)


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


def _tcp_binds(key: str, texts: Sequence[str]) -> list[TcpBind]:
    """The addresses to listen on; raises ConfigError."""
    try:
        return [TcpBind.parse(text) for text in texts]
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error


def _token_binds(config: Config) -> list[TcpBind]:
    """Those for calls."""
    binds = _tcp_binds("rpc.listen", config.rpc.listen)
    for bind in binds:
        if not bind.is_loopback:
            logger.warning(
                "tokens go to %s in clear: put a proxy with TLS in front, or listen on loopback", bind
            )
    return binds


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
