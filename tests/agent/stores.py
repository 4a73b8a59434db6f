"""A dagstore in a test's own trio loop: real catalogue, real files, and workers that a test can hold back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import trio
import trio.testing

from agent.catalogue import Catalogue, Store
from agent.dagstore.dagstore import Dagstore
from agent.dagstore.events import Hub
from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.dagstore.indexer import Working
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.mounts.threads import T, Threads
from agent.dagstore.opening import open_dagstore
from agent.dagstore.records import ShardRow, Transition
from agent.dagstore.settings import DagstoreConfig
from agent.workers import Needs, WorkerFailed, tasks
from carlib.errors import CarError

BY_HAND = DagstoreConfig(recover_on_start="never", retry_attempts=0, remote_fresh_s=0)
"""Nothing that has failed is tried again by itself, and data are looked at each time."""


class FromThread:
    """A `Fetch` for a task that runs in a thread of the test."""

    def __init__(self, needs: Needs | None) -> None:
        self._needs = needs

    def ensure(self, offset: int, length: int) -> None:
        assert self._needs is not None
        trio.from_thread.run(self._needs.ensure, offset, length)

    def renew(self, offset: int, length: int) -> None:
        assert self._needs is not None
        trio.from_thread.run(self._needs.renew, offset, length)

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        assert self._needs is not None
        trio.from_thread.run_sync(self._needs.hint, ranges)


class LetIn:
    """An `Admission` that tells nobody."""

    def begin(self) -> None:
        pass

    def report(self, done: int, total: int) -> None:
        pass


class Roomy:
    """The part of `Working` for what the agent does itself: there is always room."""

    def hurry(self, kind: str, subject: str, priority: int) -> None:
        pass

    @asynccontextmanager
    async def admitted(
        self, kind: str, *, subject: str = "", size_bytes: int = 0, priority: int = 0
    ) -> AsyncIterator[LetIn]:
        yield LetIn()


class LocalWorkers(Roomy):
    """Does tasks in the test's own process, when `gate` is open; counts them."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.gate.set()
        self.begun: list[str] = []  # paths
        self.priorities: list[int] = []  # of these
        self.cancelled = 0

    def hold(self) -> None:
        self.gate = trio.Event()

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
    ) -> dict[str, Any]:
        self.begun.append(params.get("path", kind))
        self.priorities.append(priority)
        told = progress or (lambda _done, _total: None)
        try:
            await self.gate.wait()
            if needs is None:
                return tasks.load(kind)(params, told, FromThread(None))
            return await trio.to_thread.run_sync(tasks.load(kind), params, told, FromThread(needs))
        except trio.Cancelled:
            self.cancelled += 1
            raise
        except CarError as error:
            raise WorkerFailed(ErrorClass.CORRUPT, str(error)) from error
        except ShardError as error:
            raise WorkerFailed(error.error_class, str(error)) from error
        except OSError as error:
            raise WorkerFailed(class_of_os_error(error), str(error)) from error


class StoreAround:
    """A catalogue with something around each of its writes."""

    def __init__(self, store: Catalogue) -> None:
        self._store = store
        self.shards, self.lives, self.row, self.rows_after = (
            store.shards,
            store.lives,
            store.row,
            store.rows_after,
        )
        self.index_names, self.history, self.history_page = (
            store.index_names,
            store.history,
            store.history_page,
        )

    def around(self, write: Callable[[], None], lines: Sequence[Transition]) -> None:
        """Calls `write`, which adds these lines to the histories of shards; none: it removes one."""
        write()

    def put(self, row: ShardRow, transition: Transition) -> None:
        self.around(partial(self._store.put, row, transition), [transition])

    def put_all(self, changes: Sequence[tuple[ShardRow, Transition]]) -> None:
        self.around(partial(self._store.put_all, changes), [line for _, line in changes])

    def put_new(self, changes: Sequence[tuple[ShardRow, Transition]]) -> None:
        self.around(partial(self._store.put_new, changes), [line for _, line in changes])

    def delete(self, key: str) -> None:
        self.around(partial(self._store.delete, key), [])


class AtOnce(Threads):
    """Makes its calls in the loop, where a test's clock stands still meanwhile."""

    async def run(self, origin: str, call: Callable[[], T]) -> T:
        await trio.lowlevel.checkpoint()
        return call()


@asynccontextmanager
async def dagstore_at(
    path: Path,
    *,
    workers: Working | None = None,
    hub: Hub | None = None,
    store: Store | None = None,
    settings: DagstoreConfig = BY_HAND,
    environment: Environment | None = None,
) -> AsyncIterator[Dagstore]:
    """A dagstore with its state below `path`; open it again there for what a restart would find. Retries come after
    three quarters of their longest delay."""
    indices = path / "index"
    indices.mkdir(exist_ok=True)
    with closing(Catalogue.open(path / "carfs.db")) as catalogue:
        async with open_dagstore(
            store=store or catalogue,
            workers=workers or LocalWorkers(),
            hub=hub or Hub(buffer=100),
            index_directory=indices,
            settings=settings,
            environment=environment or Environment(AtOnce()),
            chance=lambda: 0.5,
            inverting=LocalWorkers(),
        ) as dagstore:
            yield dagstore


async def settled(dagstore: Dagstore) -> None:
    """Until nothing happens any more by itself."""
    default = trio.to_thread.current_default_thread_limiter()
    while True:
        await trio.testing.wait_all_tasks_blocked()
        threads = dagstore._indexer._environment.threads.busy + dagstore._looks._calls.borrowed_tokens
        if not threads and not default.borrowed_tokens:
            return
        await trio.sleep(0)


async def register(
    dagstore: Dagstore, key: str, path: Path, *, lazy: bool = False, wait: bool = True
) -> None:
    await dagstore.register(key, str(path), lazy=lazy, wait=wait)
