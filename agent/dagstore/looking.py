"""Looking at shards' data before it is used, and what follows: what changed, went or came back moves its shard on."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import trio

from agent.catalogue import Store
from agent.dagstore import mounts
from agent.dagstore.actors import acting
from agent.dagstore.failures import ErrorClass, Failure, ShardError
from agent.dagstore.inspection import Inspector
from agent.dagstore.lifecycle import (
    INDEXED_STATES,
    Changed,
    Failed,
    FailedAgain,
    Life,
    Recover,
    Returned,
)
from agent.dagstore.origins import Origins, failure_of
from agent.dagstore.records import ShardRow, source_url
from agent.dagstore.shards import Shard
from agent.dagstore.steps import Steps
from agent.dagstore.transients import Transients

logger = logging.getLogger(__name__)

LOOKS_AT_ONCE = 8  # at the start, when every shard is looked at
ROWS_AT_ONCE = 256  # likewise, first in passing

# By itself: a disk is mounted, a mode changed.
_MAY_COME_BACK = frozenset({ErrorClass.GONE, ErrorClass.DENIED})


class Looks:
    """Looks at the data of the shards in `shards`, `calls` at once."""

    def __init__(
        self,
        steps: Steps,
        store: Store,
        shards: Mapping[str, Shard],
        inspector: Inspector,
        origins: Origins,
        calls: trio.CapacityLimiter,
        transients: Transients,
        fresh_s: float,
    ) -> None:
        self._steps = steps
        self._store = store
        self._shards = shards
        self._inspector = inspector
        self._origins = origins
        self._calls = calls
        self._transients = transients
        self._fresh_s = fresh_s

    async def before_use(self, shard: Shard) -> None:
        """As `at`, but data that are elsewhere are taken to be as they were when they were looked at a moment ago: no
        byte of other data is ever joined to them, so all that is late is the new index. Raises likewise."""
        if shard.life.state in INDEXED_STATES and trio.current_time() < shard.fresh_until_s:
            index = shard.row.index
            if index is not None and not self._inspector.index_difference(index):
                return
        await self.at(shard)

    async def at(self, shard: Shard) -> None:
        """Looks at the data and the index of a shard that has one, and moves it on if they are not what they were.

        Raises ShardError(busy) if we could not look, which says nothing about the shard.
        """
        life = shard.life
        if not (life.state in INDEXED_STATES or life.failure is not None):
            return
        row = shard.row
        if row.index is None or not (life.state in INDEXED_STATES or _may_come_back(life, row)):
            return
        found = await self._difference(shard, row)
        dropped = await self._without_copy(row, found)
        now = shard.life
        if now.generation != life.generation:
            return  # somebody else has moved it on in the meantime
        if now.state not in INDEXED_STATES:
            if _may_come_back(now, row) and not found:
                self._steps.settle(shard, Returned(now.generation))
        elif dropped:
            self._steps.settle(shard, Changed(dropped), existing_transient="")
        elif isinstance(found, Failure):
            self._steps.settle(shard, Failed(now.generation, found))
        elif found:
            self._steps.settle(shard, Changed(found))

    async def at_all(self) -> None:
        """Looks once at each shard: in passing at what lies on this machine, and then at what looked odd.

        What lies elsewhere is looked at when it is used: a hundred thousand requests at once would be an attack.
        """
        limiter = trio.CapacityLimiter(LOOKS_AT_ONCE)
        after = ""
        async with trio.open_nursery() as nursery:
            while rows := self._store.rows_after(after, ROWS_AT_ONCE):
                after = rows[-1].key
                for key in await self._inspector.odd(rows):
                    if (shard := self._shards.get(key)) is not None:
                        await limiter.acquire_on_behalf_of(shard)
                        nursery.start_soon(self._at_one_of_many, shard, limiter)
                await trio.lowlevel.checkpoint()

    async def again(self, shard: Shard, number: int, of: int) -> None:
        """One of the retries that were scheduled: a look, where that may do, else a new index."""
        with acting(f"agent: retry {number} of {of}"):
            life = shard.life
            found: str | Failure | None = None
            dropped = ""
            try:
                row = shard.row
                if row.index is not None and _may_come_back(life, row):
                    found = await self._difference(shard, row)
                    dropped = "" if isinstance(found, Failure) else await self._without_copy(row, found)
            except ShardError:  # we could not look: it is as bad as before
                found = life.failure
            if shard.life is not life or self._shards.get(shard.key) is not shard:
                return
            if found == "":
                self._steps.settle(shard, Returned(life.generation))
            elif isinstance(found, Failure):
                self._steps.settle(shard, FailedAgain(found))
            elif dropped:
                self._steps.settle(shard, Recover(None, dropped), existing_transient="")
            else:
                self._steps.settle(shard, Recover(None, found or f"retry {number} of {of}"))

    async def _at_one_of_many(self, shard: Shard, limiter: trio.CapacityLimiter) -> None:
        try:
            await self.at(shard)
        except ShardError as error:
            logger.warning("shard %s could not be looked at: %s", shard.key, error)
        finally:
            limiter.release_on_behalf_of(shard)

    async def _difference(self, shard: Shard, row: ShardRow) -> str | Failure:
        """What is not as it was when it was indexed: empty if all is, a Failure if the data cannot be looked at.

        While the place where the data are does not answer, a shard stays what it was: what was fetched can be read, and
        what was not is an error of whoever asks for it. Raises ShardError(busy) if we could not look at local data.
        """
        assert row.index is not None
        url = source_url(row)
        is_elsewhere = _is_elsewhere(row)
        try:
            async with self._calls:
                with self._origins.visited(url) as visit:
                    difference = await self._inspector.difference(url, row.index)
                    visit.came_out(None)
        except ShardError as error:
            failure = failure_of(error)
            if is_elsewhere and (failure.origin_failed or error.error_class is ErrorClass.BUSY):
                logger.debug("shard %s could not be looked at: %s", row.key, error)
            elif is_elsewhere and self._transients.is_whole(row.key, row.index.fingerprint):
                self._note_last_copy(shard, row, failure)
            elif error.error_class is ErrorClass.BUSY:
                raise
            else:
                return failure
            difference = self._inspector.index_difference(row.index)
        if is_elsewhere and not difference:
            shard.fresh_until_s = trio.current_time() + self._fresh_s
        return difference

    def _note_last_copy(self, shard: Shard, row: ShardRow, failure: Failure) -> None:
        """Says once, in the history, that the transient is all there is."""
        reason = f"all of the data are here, and are read from here alone: {failure.message}"
        last = self._store.history(row.key)[-1:]
        if not last or last[0].reason != reason:
            self._steps.note(shard, row, "LastCopy", reason)

    async def _without_copy(self, row: ShardRow, found: str | Failure) -> str:
        """Why the data are read from the URL from now on and no longer from the user's own copy; empty if they are.

        A copy that was changed is no longer one of what is at the URL, and only if that is known to be gone is it
        indexed as it is now."""
        assert row.index is not None
        if not row.existing_transient or not found:
            return ""
        if isinstance(found, Failure):
            is_gone = found.error_class is ErrorClass.GONE and not found.origin_failed
            why = f"the local copy is gone, {mounts.shown(row.url)} takes its place: {found.message}"
            return why if is_gone else ""
        if found == self._inspector.index_difference(row.index):
            return ""
        try:
            async with self._calls:
                with self._origins.visited(row.url) as visit:
                    await self._inspector.look(row.url)
                    visit.came_out(None)
        except ShardError as error:
            failure = failure_of(error)
            if failure.error_class is ErrorClass.GONE and not failure.origin_failed:
                return ""
        return f"the local copy was changed, {mounts.shown(row.url)} takes its place: {found}"


def _may_come_back(life: Life, row: ShardRow) -> bool:
    """Whether a look may show that an Errored shard is as it was indexed."""
    if life.failure is None:
        return False
    error_class = life.failure.error_class
    return error_class in _MAY_COME_BACK or (error_class is ErrorClass.BUSY and _is_elsewhere(row))


def _is_elsewhere(row: ShardRow) -> bool:
    return mounts.parse(source_url(row)).path is None
