"""Standing in: when the first mount of a shard is gone, its next replica takes over, until the first is back.

A replica is believed when it has the size of the data and a sample of its blocks, chosen by chance, hashes and lies
where our index says; no index is made anew. What the sample did not see is found out block by block, as always: no
block leaves that does not match its CID.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol

import trio
from msgspec.structs import replace

from agent.dagstore.events import Hub
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.lifecycle import INDEXED_STATES, ShardState
from agent.dagstore.mounts import Fingerprint, shown
from agent.dagstore.records import ShardRow
from agent.dagstore.scrub.replicas import Mismatch, Replica, Replicas
from agent.dagstore.scrub.store import ScrubStore

logger = logging.getLogger(__name__)

HOME_INTERVAL_S: Final = 60.0
"""Between two looks at whether a first mount is back."""
AT_ONCE: Final = 4
_REPLACED: Final = frozenset({ErrorClass.GONE, ErrorClass.DENIED, ErrorClass.CORRUPT})
"""What another copy of the data helps against."""
_AWAY: Final = frozenset({ErrorClass.GONE, ErrorClass.DENIED, ErrorClass.BUSY})
"""Likewise before there is an index that says which bytes are the right ones."""


class Changeable(Protocol):
    """What standing in needs of the dagstore."""

    def row(self, key: str) -> ShardRow:
        """Raises ShardError(not-found)."""

    def state(self, key: str) -> ShardState:
        """Raises ShardError(not-found)."""

    def index_from(self, key: str, url: str, replicas: tuple[str, ...], reason: str) -> None:
        """Has an Errored shard without an index read from another mount from now on, and indexed. Raises ShardError."""

    def stand_in(
        self, key: str, index: str, replica: Replica, replicas: tuple[str, ...], reason: str
    ) -> None:
        """Reads the shard from another mount from now on, if its index is still the one of that name; a shard that was
        Errored is Available then. Raises ShardError."""


def order_of(row: ShardRow, known: tuple[str, ...]) -> tuple[str, ...]:
    """All mounts of a shard, the first one first; `known` is that order where a replica stands in already."""
    return known or (row.url, *row.replicas)


def others(order: tuple[str, ...], active: str) -> tuple[str, ...]:
    """What is left of the mounts while one is active."""
    return tuple(url for url in order if url != active)


class Standby:
    """Watches for shards whose mount is gone, and for first mounts that are back."""

    def __init__(
        self,
        *,
        shards: Changeable,
        store: ScrubStore,
        replicas: Replicas,
        hub: Hub,
        is_on: Callable[[], bool],
    ) -> None:
        self._shards = shards
        self._store = store
        self._replicas = replicas
        self._hub = hub
        self._is_on = is_on
        self._busy: set[str] = set()
        self._limiter = trio.CapacityLimiter(AT_ONCE)
        self._away = {key for key, state in store.scrubs_with_findings() if state.order}

    async def run(self) -> None:
        """Until cancelled, or until the hub closes."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_home)
            await self._follow(nursery)
            nursery.cancel_scope.cancel()

    async def _follow(self, nursery: trio.Nursery) -> None:
        is_cut = True
        while is_cut:
            is_cut = False

            def cut() -> None:
                nonlocal is_cut
                is_cut = True

            subscription = self._hub.subscribe(cut)
            while keys := await subscription.wait_changed():
                for key in keys:
                    if key not in self._busy and self._needs_help(key) is not None:
                        self._busy.add(key)
                        nursery.start_soon(self._help, key)

    def _needs_help(self, key: str) -> ShardRow | None:
        """The row of an Errored shard that another copy of its data would help."""
        try:
            if self._shards.state(key) is not ShardState.ERRORED:
                return None
            row = self._shards.row(key)
        except ShardError:
            return None
        replaced = _AWAY if row.index is None else _REPLACED
        return row if row.replicas and row.error_class in replaced else None

    async def _help(self, key: str) -> None:
        try:
            async with self._limiter:
                row = self._needs_help(key)
                if row is not None and self._is_on():
                    await (self._index_elsewhere if row.index is None else self._stand_in)(row)
        except ShardError as error:
            logger.warning("shard %s: no replica could take over: %s", key, error)
        finally:
            self._busy.discard(key)

    async def _stand_in(self, row: ShardRow) -> None:
        """Tries the replicas in their order."""
        troubles = []
        order = order_of(row, self._store.scrub(row.key).order)
        for url in others(order, row.url):
            trouble = await self._taken_over(
                row, url, order, f"{shown(row.url)} is {row.error_class}, {shown(url)} takes over"
            )
            if not trouble:
                return
            troubles.append(f"{shown(url)}: {trouble}")
        logger.warning("shard %s: no replica can take over: %s", row.key, "; ".join(troubles))

    async def _index_elsewhere(self, row: ShardRow) -> None:
        """Has a shard that never got an index read from the first replica that is there, if its own mount is not."""
        troubles = []
        order = order_of(row, self._store.scrub(row.key).order)
        for url in (row.url, *others(order, row.url)):
            try:
                await self._replicas.look(url)
            except ShardError as error:
                troubles.append(f"{shown(url)}: {error}")
                continue
            if url != row.url:  # else it is back, and is tried again as all that failed is
                reason = f"{shown(row.url)} is {row.error_class}, {shown(url)} takes over"
                self._keep_order(row.key, order if url != order[0] else ())
                self._shards.index_from(row.key, url, others(order, url), reason)
                logger.warning("shard %s: %s", row.key, reason)
            return
        logger.warning("shard %s: no replica can take over: %s", row.key, "; ".join(troubles))

    async def _taken_over(self, row: ShardRow, url: str, order: tuple[str, ...], reason: str) -> str:
        """Why the mount at `url` cannot be believed; empty if the shard is read from there now."""
        assert row.index is not None
        try:
            replica = await self._replicas.find(url, row.index)
            if url == order[0] and replica.fingerprint == self._store.scrub(row.key).rejected:
                return "it is as it was when it was found corrupt"
            await self._replicas.check_sample(replica, row.index)
        except (Mismatch, ShardError) as error:
            return str(error)
        # What knows the first mount is written first and forgotten last: a kill in between costs a look.
        if url != order[0]:
            is_corrupt = row.error_class is ErrorClass.CORRUPT and row.url == order[0]
            self._keep_order(row.key, order, row.index.fingerprint if is_corrupt else None)
        self._shards.stand_in(row.key, row.index.name, replica, others(order, url), reason)
        if url == order[0]:
            self._keep_order(row.key, ())
        self._hub.publish(row.key)
        logger.warning("shard %s: %s", row.key, reason)
        return ""

    def _keep_order(self, key: str, order: tuple[str, ...], rejected: Fingerprint | None = None) -> None:
        state = self._store.scrub(key)
        rejected = rejected or (state.rejected if order else None)
        self._store.put_scrub(key, replace(state, order=order, rejected=rejected))
        (self._away.add if order else self._away.discard)(key)

    async def _look_home(self) -> None:
        """First mounts that are back take over again."""
        while True:
            await trio.sleep(HOME_INTERVAL_S)
            for key in sorted(self._away - self._busy):
                try:
                    await self._return(key)
                except ShardError as error:
                    logger.debug("shard %s: %s", key, error)

    async def _return(self, key: str) -> None:
        order = self._store.scrub(key).order
        try:
            row = self._shards.row(key)
        except ShardError:
            self._away.discard(key)
            return
        if not order or row.url == order[0]:
            self._keep_order(key, ())
        elif row.index is not None and self._shards.state(key) in INDEXED_STATES and self._is_on():
            trouble = await self._taken_over(
                row, order[0], order, f"{shown(order[0])} is back and takes over again"
            )
            if trouble:
                logger.debug("shard %s: the first mount is not back: %s", key, trouble)
