"""Looking at shards' data before it is used, and what follows: what changed, went or came back moves its shard on."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import trio

from agent.catalogue import Store
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
from agent.dagstore.origins import Origins, is_of_origin
from agent.dagstore.records import ShardRow, source_url
from agent.dagstore.shards import Shard
from agent.dagstore.steps import Steps

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
    ) -> None:
        self._steps = steps
        self._store = store
        self._shards = shards
        self._inspector = inspector
        self._origins = origins
        self._calls = calls

    async def at(self, shard: Shard) -> None:
        """Looks at the data and the index of a shard that has one, and moves it on if they are not what they were.

        Raises ShardError(busy) if we could not look, which says nothing about the shard.
        """
        life = shard.life
        if not (life.state in INDEXED_STATES or _may_come_back(life)):
            return
        row = shard.row
        if row.index is None:
            return
        found = await self._difference(row)
        now = shard.life
        if now.generation != life.generation:
            return  # somebody else has moved it on in the meantime
        if isinstance(found, Failure):
            if now.state in INDEXED_STATES:
                self._not_there(shard, row, found)
        elif now.state in INDEXED_STATES and found:
            self._steps.settle(shard, Changed(found))
        elif _may_come_back(now) and not found:
            self._steps.settle(shard, Returned(now.generation))

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
            try:
                row = shard.row
                if row.index is not None and _may_come_back(life):
                    found = await self._difference(row)
            except ShardError:  # we could not look: it is as bad as before
                found = life.failure
            if shard.life is not life or self._shards.get(shard.key) is not shard:
                return
            if found == "":
                self._steps.settle(shard, Returned(life.generation))
            elif isinstance(found, Failure):
                self._steps.settle(shard, FailedAgain(found))
            else:
                self._steps.settle(shard, Recover(None, found or f"retry {number} of {of}"))

    async def _at_one_of_many(self, shard: Shard, limiter: trio.CapacityLimiter) -> None:
        try:
            await self.at(shard)
        except ShardError as error:
            logger.warning("shard %s could not be looked at: %s", shard.key, error)
        finally:
            limiter.release_on_behalf_of(shard)

    async def _difference(self, row: ShardRow) -> str | Failure:
        """What is not as it was when it was indexed: empty if all is, a Failure if the data cannot be looked at.

        Raises ShardError(busy) if we could not look.
        """
        assert row.index is not None
        url = source_url(row)
        try:
            async with self._calls:
                with self._origins.visited(url) as visit:
                    difference = await self._inspector.difference(url, row.index)
                    visit.came_out(None)
                    return difference
        except ShardError as error:
            if error.error_class is ErrorClass.BUSY:
                raise
            return Failure(error.error_class, str(error), is_of_origin(error))

    def _not_there(self, shard: Shard, row: ShardRow, failure: Failure) -> None:
        if row.existing_transient and failure.error_class is ErrorClass.GONE and not failure.origin_failed:
            reason = f"the local copy is gone, {row.url} takes its place: {failure.message}"
            self._steps.settle(shard, Changed(reason), existing_transient="")
        else:
            self._steps.settle(shard, Failed(shard.life.generation, failure))


def _may_come_back(life: Life) -> bool:
    return life.failure is not None and life.failure.error_class in _MAY_COME_BACK
