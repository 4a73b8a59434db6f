"""`carfs worker run` as a process: its limits, its worker processes, its signals; what it does is in `worker`."""

from __future__ import annotations

import importlib.metadata
import logging
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, closing
from functools import partial

import trio

from agent import logs, systemd
from agent.resources import reading
from agent.resources.files import MachineFiles
from agent.resources.monitor import Monitor, open_monitor
from agent.resources.settings import ResourcesConfig
from agent.workers.groups import open_groups
from agent.workers.local import LocalExecutor, open_local
from agent.workers.remote.link import HttpLink
from agent.workers.remote.where import Where
from agent.workers.remote.worker import Leave, RemoteWorker, Settings

logger = logging.getLogger(__name__)


def main(
    where: Where,
    token: str,
    *,
    name: str,
    kinds: frozenset[str],
    resources: ResourcesConfig,
    grace_s: float,
    once: bool,
    log_level: str,
) -> None:
    """Works until it is told to leave. Raises Refused; with `once` LinkBroken, too."""
    logs.set_up(log_level)
    settings = Settings(str(uuid.uuid4()), name, kinds, _version(), grace_s, once)
    trio.run(_run, where, token, settings, resources)


async def _run(where: Where, token: str, settings: Settings, resources: ResourcesConfig) -> None:
    leave = Leave()
    refused: list[Exception] = []
    with trio.open_signal_receiver(*_leave_signals()) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_leave_on_signal, signals, leave)
            async with (
                _working(settings, resources) as (executor, monitor),
                aclosing(HttpLink(where, token)) as link,
            ):
                worker = RemoteWorker(settings, link, executor, leave)
                monitor.subscribe(worker.poke)
                systemd.notify("READY=1")
                try:
                    await worker.run()
                except Exception as error:  # not in a group of nurseries, for whoever shows it
                    refused.append(error)
            nursery.cancel_scope.cancel()
    if refused:
        raise refused[0]
    logger.info("left")


@asynccontextmanager
async def _working(
    settings: Settings, resources: ResourcesConfig
) -> AsyncIterator[tuple[LocalExecutor, Monitor]]:
    """Processes, and the limits that hold for them here; groups first, since that may move us into another one."""
    with closing(open_groups(setting=resources.child_groups)) as groups:
        if groups.reason:
            logger.info("processes have no limit of their own: %s", groups.reason)
        async with (
            open_monitor(
                partial(reading.read, MachineFiles(), resources),
                interval_s=resources.interval_s,
                pressure_percent=resources.pressure,
            ) as monitor,
            open_local(
                name=settings.name,
                kinds=settings.kinds,
                snapshot=monitor.snapshot,
                disk_left=lambda: 0,
                groups=groups,
            ) as executor,
        ):
            yield executor, monitor


def _leave_signals() -> tuple[signal.Signals, ...]:
    """SIGHUP, which comes when the terminal goes, is one of them unless nohup(1) has said to ignore it."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return (signal.SIGTERM, signal.SIGINT, *(() if ignored else (signal.SIGHUP,)))


async def _leave_on_signal(signals: AsyncIterator[int], leave: Leave) -> None:
    """The first lets what runs end, the second does not."""
    async for number in signals:
        logger.info("%s: leaving%s", signal.Signals(number).name, " at once" if leave.asked.is_set() else "")
        systemd.notify("STOPPING=1")
        if leave.asked.is_set():
            leave.at_once.cancel()
        leave.asked.set()


def _version() -> str:
    try:
        return importlib.metadata.version("carfs")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return "0"
