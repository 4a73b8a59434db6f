"""Having an index made by a worker, and the progress of that."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
import trio

from agent.dagstore import index_files, mounts
from agent.dagstore.failures import ErrorClass, Failure, ShardError
from agent.dagstore.indexers import DEFAULT
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.origins import failure_of
from agent.dagstore.records import IndexFacts
from agent.dagstore.transients import Transient, Transients, Visits
from agent.scheduler.tasks import DEAL_PRIORITY
from agent.workers import Needs, WorkerFailed

logger = logging.getLogger(__name__)


class Workers(Protocol):
    """What indexes for us: `agent.scheduler.scheduler.Scheduler`."""

    async def run(
        self,
        kind: str,
        params: dict[str, Any],
        progress: Callable[[int, int], None] | None = None,
        needs: Needs | None = None,
        *,
        subject: str = "",
        size_bytes: int = 0,
        priority: int = 0,
    ) -> dict[str, Any]:  # Any: JSON, as agent/workers/indexing.py documents it
        """See `Scheduler.run`."""


class Admission(Protocol):
    """Work that was let in: `agent.scheduler.entries.Admission`."""

    def begin(self) -> None:
        """What it needed is there."""

    def report(self, done: int, total: int) -> None:
        """How far it is."""


class Working(Workers, Protocol):
    """What lets in, too, what we do ourselves: `agent.scheduler.scheduler.Scheduler`."""

    def hurry(self, kind: str, subject: str, priority: int) -> None:
        """See `Scheduler.hurry`."""

    def admitted(
        self, kind: str, *, subject: str = "", size_bytes: int = 0, priority: int = 0
    ) -> AbstractAsyncContextManager[Admission]:
        """See `Scheduler.admitted`."""


@dataclass(eq=False, slots=True)
class Indexing:
    """The making of one index; cancel `scope` to stop it."""

    generation: int
    name: str  # of the index file
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    done_bytes: int = 0
    total_bytes: int = 0

    def report(self, done: int, total: int) -> None:
        self.done_bytes, self.total_bytes = done, total


class Indexer:
    """Makes index files in one directory."""

    def __init__(
        self,
        workers: Working,
        directory: Path,
        transients: Transients,
        environment: Environment,
        visits: Visits,
    ) -> None:
        self._workers = workers
        self._directory = directory
        self._transients = transients
        self._environment = environment
        self._visits = visits

    async def outcome(
        self,
        key: str,
        url: str,
        indexing: Indexing,
        *,
        replicas: Sequence[str] = (),
        indexer: str = DEFAULT,
        priority: int = 0,
    ) -> IndexFacts | Failure | None:
        """Makes the index, which is complete and on disk then; None if `indexing.scope` was cancelled.

        `replicas`: further URLs of the same bytes. Without IndexFacts, `discard` must follow.
        """
        order = _Order(key, indexing, priority)
        with indexing.scope:
            try:
                return await self._made(url, order, replicas, {"indexer": indexer})
            except ShardError as error:
                return failure_of(error)
            except WorkerFailed as error:
                return Failure(error.error_class, str(error))
            except Exception as error:
                logger.exception("shard %s: indexing failed", key)
                return Failure(ErrorClass.BUG, f"{type(error).__name__}: {error}")
        return None

    def hurry(self, key: str) -> None:
        """Somebody waits for this index now."""
        self._workers.hurry("index", key, DEAL_PRIORITY)

    async def discard(self, name: str) -> None:
        """Removes an index file, in a thread, since a big one takes its time."""
        await trio.to_thread.run_sync(index_files.discard, self._directory, name)

    async def _made(
        self, url: str, order: _Order, replicas: Sequence[str], params: dict[str, Any]
    ) -> IndexFacts:
        mount = mounts.parse(url)
        environment = self._environment
        if mount.path is not None:
            order.size_bytes = await environment.threads.run(mount.origin, partial(_size_of, mount.path))
            return await self._run(params | {"path": str(mount.path)}, order)
        key = order.key
        with self._visits.visited(url) as visit:
            fingerprint = await mount.look(environment)
            visit.came_out(None)
        access = await environment.threads.run(mount.origin, partial(mount.access, environment))
        order.size_bytes = fingerprint.size
        params |= {"fingerprint": msgspec.to_builtins(fingerprint)}
        if access is not None:
            facts = await self._run(params | {"access": msgspec.to_builtins(access)}, order)
            changed = fingerprint.differs_from(await mount.look(environment))
            if changed:
                message = (
                    f"{mount} changed while it was indexed ({changed}); recover the shard when that is done"
                )
                raise ShardError(ErrorClass.BUSY, message)
            return facts
        sources = [mount, *map(mounts.parse, replicas)]
        lacked: Failure | None = None
        try:
            async with self._transients.use(key, sources, fingerprint) as transient:
                params |= {"access": msgspec.to_builtins(transient.access)}
                try:
                    return await self._run(params, order, transient)
                finally:
                    lacked = transient.last_failure
        except WorkerFailed as error:
            if error.error_class is ErrorClass.CORRUPT:
                await self._transients.discard(key)  # it may be our copy alone: the next attempt fetches anew
            if lacked is None or lacked.error_class is not error.error_class:
                raise
            # The worker knows that it did not get its bytes; whose fault that is, and for how long, is known here.
            failed = ShardError(error.error_class, str(error))
            failed.failure = replace(lacked, message=str(error))
            raise failed from error

    async def _run(
        self, params: dict[str, Any], order: _Order, transient: Transient | None = None
    ) -> IndexFacts:
        name = order.indexing.name
        params |= {
            "scratch": str(index_files.scratch(self._directory, name)),
            "out": str(self._directory / name),
        }
        result = await self._workers.run(
            "index", params, order.indexing.report, transient,
            subject=order.key, size_bytes=order.size_bytes, priority=order.priority,
        )  # fmt: skip
        return msgspec.convert(result, IndexFacts)


@dataclass(slots=True)
class _Order:
    """What the scheduler is told of an index."""

    key: str
    indexing: Indexing
    priority: int
    size_bytes: int = 0  # of the data


def _size_of(path: Path) -> int:
    """0 if it cannot be found out: the worker will say why."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
