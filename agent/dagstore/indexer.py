"""Having an index made by a worker, and the progress of that."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
import trio

from agent.dagstore import index_files, mounts
from agent.dagstore.failures import ErrorClass, Failure, ShardError
from agent.dagstore.indexers import DEFAULT
from agent.dagstore.origins import is_of_origin
from agent.dagstore.records import IndexFacts
from agent.workers import WorkerFailed

logger = logging.getLogger(__name__)


class Workers(Protocol):
    """What indexes for us: `agent.workers.WorkerPool`."""

    async def run(
        self, kind: str, params: dict[str, Any], progress: Callable[[int, int], None] | None = None
    ) -> dict[str, Any]:  # Any: JSON, as agent/workers/indexing.py documents it
        """See `WorkerPool.run`."""


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

    def __init__(self, workers: Workers, directory: Path) -> None:
        self._workers = workers
        self._directory = directory

    async def outcome(
        self, key: str, url: str, indexing: Indexing, indexer: str = DEFAULT
    ) -> IndexFacts | Failure | None:
        """Makes the index, which is complete and on disk then; None if `indexing.scope` was cancelled.

        Without IndexFacts, `discard` must follow.
        """
        with indexing.scope:
            try:
                return await self._made(key, url, indexing, indexer)
            except ShardError as error:
                return Failure(error.error_class, str(error), is_of_origin(error))
            except WorkerFailed as error:
                return Failure(error.error_class, str(error))
            except Exception as error:
                logger.exception("shard %s: indexing failed", key)
                return Failure(ErrorClass.BUG, f"{type(error).__name__}: {error}")
        return None

    async def discard(self, name: str) -> None:
        """Removes an index file, in a thread, since a big one takes its time."""
        await trio.to_thread.run_sync(index_files.discard, self._directory, name)

    async def _made(self, key: str, url: str, indexing: Indexing, indexer: str) -> IndexFacts:
        path = mounts.parse(url).path
        if path is None:
            raise ShardError(ErrorClass.INVALID, f"{url} has no local file")
        name = indexing.name
        params = {
            "path": str(path),
            "scratch": str(index_files.scratch(self._directory, name)),
            "out": str(self._directory / name),
            "indexer": indexer,
        }
        return msgspec.convert(await self._workers.run("index", params, indexing.report), IndexFacts)
