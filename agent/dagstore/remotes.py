"""Shards whose data are elsewhere: where other processes find them, and getting what of them is not here yet."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final

import trio

from agent.dagstore import mounts
from agent.dagstore.access import Access
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.indexer import Admission, Working
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.origins import is_of_origin
from agent.dagstore.records import ShardRow, source_url
from agent.dagstore.settings import DagstoreConfig
from agent.dagstore.shards import Shard
from agent.dagstore.transients import Limits, Settings, Transient, Transients
from agent.workers import WorkerFailed

logger = logging.getLogger(__name__)

PAUSES_S: Final = (0.25, 1.0)
"""Before a request is made once more and again: what a server that starts anew takes, and short beside the time that a
reader waits (30 s)."""


REPORT_S: Final = 0.5
"""Between two looks at how far a fetch is."""


def settings_of(config: DagstoreConfig) -> Settings:
    """What `[dagstore]` says of transients."""
    limits = Limits(config.transients_max_bytes, config.transients_high, config.transients_low)
    return Settings(limits, config.max_concurrent_ready_fetches, pauses_s=PAUSES_S)


class Remotes:
    """Reads of shards; `look` finds out what a fetch that failed says about its shard."""

    def __init__(
        self,
        nursery: trio.Nursery,
        workers: Working,
        transients: Transients,
        environment: Environment,
        look: Callable[[Shard], Awaitable[None]],
    ) -> None:
        self._nursery = nursery
        self._workers = workers
        self._transients = transients
        self._environment = environment
        self._look = look
        self._completing: set[str] = set()  # in the background
        self._whole: Counter[str] = Counter()  # callers that have all of a shard fetched
        self._sizes: dict[str, int] = {}  # of these

    async def access(self, shard: Shard) -> Access | None:
        """How other processes read the data of a shard that is in use, with its transient there: it may have been
        removed while nobody used it. None for a local file, which its record tells. Raises ShardError."""
        row = shard.row
        mount = mounts.parse(source_url(row))
        if mount.path is not None or row.index is None:
            return None
        in_place = partial(mount.access, self._environment)
        access = await self._environment.threads.run(mount.origin, in_place)
        if access is not None:
            return access
        async with self._transient(row) as transient:
            return transient.access

    @asynccontextmanager
    async def reading(self, shard: Shard) -> AsyncIterator[tuple[Access, Transient | None]]:
        """How another process reads the data for the time of the block, and who gets what of them is not here yet.
        Raises ShardError."""
        row = shard.row
        mount = mounts.parse(source_url(row))
        in_place = partial(mount.access, self._environment)
        access = await self._environment.threads.run(mount.origin, in_place)
        if access is not None:
            yield access, None
            return
        async with self._transient(row) as transient:
            yield transient.access, transient

    async def fetch_range(self, shard: Shard, offset: int, length: int, *, again: bool) -> None:
        """Returns when these bytes are in the transient; with `again`, what is there of them is wrong and is fetched
        once more. Raises ShardError: what the mount raises, no-space, busy (there is no index yet)."""
        try:
            for last in (False, True):
                async with self._transient(shard.row) as transient:
                    try:
                        await (transient.renew if again else transient.ensure)(offset, length)
                        break
                    except ShardError:
                        if last or not transient.vanished:
                            raise  # else it is another one by now, in the place of files that somebody removed
        except ShardError as error:
            says_much = error.error_class in (ErrorClass.CORRUPT, ErrorClass.GONE) and not is_of_origin(error)
            if says_much:
                self._nursery.start_soon(self._look_at, shard)  # is it that the data have changed, or gone?
            raise

    async def want_ranges(self, shard: Shard, ranges: Sequence[tuple[int, int]]) -> None:
        """Begins to fetch bytes that will be asked for soon, each an offset and a length."""
        async with self._transient(shard.row) as transient:
            transient.hint(ranges)

    async def complete(self, shard: Shard) -> None:
        """Returns when all of the data are here; whatever readers ask for goes first. Raises as `fetch_range`, and
        ShardError(cancelled) if somebody calls it off in the scheduler."""
        async with self._transient(shard.row) as transient:
            self._whole[shard.key] += 1
            self._sizes[shard.key] = transient.access.size
            try:
                await self._finish(shard.key, transient)
            finally:
                self._whole[shard.key] -= 1
                if not self._whole[shard.key]:
                    del self._whole[shard.key], self._sizes[shard.key]

    async def _finish(self, key: str, transient: Transient) -> None:
        size = transient.access.size
        try:
            async with self._workers.admitted("fetch", subject=key, size_bytes=size) as admission:
                admission.begin()
                reporting = trio.CancelScope()
                self._nursery.start_soon(self._report, key, size, admission, reporting)
                try:
                    await transient.finish()
                finally:
                    reporting.cancel()
        except WorkerFailed as error:
            raise ShardError(error.error_class, str(error), key=key) from error

    async def _report(self, key: str, size: int, admission: Admission, reporting: trio.CancelScope) -> None:
        with reporting:
            while True:
                admission.report(self._transients.size_of(key), size)
                await trio.sleep(REPORT_S)

    def completing(self) -> dict[str, tuple[int, int]]:
        """By key, of what is being fetched as a whole: bytes that are here, and all bytes."""
        return {key: (self._transients.size_of(key), size) for key, size in self._sizes.items()}

    def complete_soon(self, shard: Shard) -> None:
        """Does that in the background; harmless if it is under way. What it fails of is logged."""
        if shard.key not in self._completing:
            self._completing.add(shard.key)
            self._nursery.start_soon(self._complete, shard)

    async def _complete(self, shard: Shard) -> None:
        try:
            await self.complete(shard)
            logger.info("shard %s: all of its data are here", shard.key)
        except ShardError as error:
            logger.warning("shard %s could not be fetched as a whole: %s; ask again", shard.key, error)
        finally:
            self._completing.discard(shard.key)

    async def discard(self, key: str) -> None:
        """Removes the transient of a shard that was destroyed, if it has one."""
        try:
            with trio.CancelScope(shield=True):
                await self._transients.discard(key)
        except ShardError as error:
            logger.warning("%s; it is removed at the next start", error)

    def _transient(self, row: ShardRow) -> AbstractAsyncContextManager[Transient]:
        sources = [mounts.parse(url) for url in (source_url(row), *row.replicas)]
        if sources[0].path is not None:
            message = f"the data of shard {row.key!r} are local: there is nothing to fetch"
            raise ShardError(ErrorClass.INVALID, message, key=row.key)
        if row.index is None:
            message = f"shard {row.key!r} has no index yet, so nothing of it is fetched"
            raise ShardError(ErrorClass.BUSY, message, key=row.key)
        return self._transients.use(row.key, sources, row.index.fingerprint, unseen=True)

    async def _look_at(self, shard: Shard) -> None:
        try:
            await self._look(shard)
        except ShardError as error:
            logger.debug("shard %s could not be looked at: %s", shard.key, error)
