"""Taking shards in: what is asked for in one turn of the loop is written in one transaction, since what takes time is
the disk's flush and not the rows. Nobody is answered before his own is on disk.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from agent.catalogue import Store
from agent.dagstore import indexers, mounts
from agent.dagstore.actors import actor
from agent.dagstore.failures import STOPPING, ErrorClass, Failure, ShardError
from agent.dagstore.lifecycle import Initialise, Life, Register, ShardState, Waiter, Withdraw
from agent.dagstore.mounts import FileMount
from agent.dagstore.records import ShardRow, check_key, now_text
from agent.dagstore.shards import Shard
from agent.dagstore.steps import Move, Steps

IN_ONE_TRANSACTION = 256  # planning and telling these keeps the loop from other work for some 10 ms
MAX_REPLICAS = 16


@dataclass(frozen=True, slots=True)
class Registration:
    """What a shard is to be. `url`, `replicas`: URLs or absolute paths. `existing_transient`: absolute path of the
    user's own copy of the same data, which is used in its place as long as it is there."""

    key: str
    url: str
    lazy: bool = False
    replicas: Sequence[str] = ()
    existing_transient: str = ""
    indexer: str = indexers.DEFAULT

    def row(self) -> ShardRow:
        """What the catalogue is to have of it; raises ShardError(invalid)."""
        check_key(self.key)
        indexers.check(self.indexer)
        if len(self.replicas) > MAX_REPLICAS:
            message = f"a shard has at most {MAX_REPLICAS} replicas, not {len(self.replicas)}"
            raise ShardError(ErrorClass.INVALID, message, key=self.key)
        transient = self.existing_transient and FileMount.at(os.fsencode(self.existing_transient)).path
        return ShardRow(
            self.key,
            mounts.resolve(self.url).url,
            ShardState.NEW,
            self.lazy,
            now_text(),
            replicas=tuple(mounts.resolve(replica).url for replica in self.replicas),
            existing_transient=str(transient) if isinstance(transient, Path) else "",
            indexer=self.indexer,
        )


@dataclass(eq=False, slots=True)
class Pending:
    """One registration on its way to the disk."""

    row: ShardRow
    shard: Shard
    waiter: Waiter | None
    actor: str
    written: trio.Event = field(default_factory=trio.Event)
    failure: Failure | None = None


class Registrar:
    """Adds to `shards` what it has written."""

    def __init__(self, nursery: trio.Nursery, steps: Steps, store: Store, shards: dict[str, Shard]) -> None:
        self._nursery = nursery
        self._steps = steps
        self._store = store
        self._shards = shards
        self._queue: deque[Pending] = deque()
        self._keys: set[str] = set()  # of those in the queue

    async def register(self, registration: Registration, *, wait: bool = False) -> None:
        """Takes it in; returns when it is on disk, with `wait` (and if it is not lazy) when it is Available.

        Raises ShardError: invalid, exists, the catalogue's (then it is not registered); with `wait` what made it
        Errored (then it is). Cancelled, it may have been registered.
        """
        waits = wait and not registration.lazy
        pending = self._begin(registration, self._steps.waiters.add if waits else None)
        try:
            await pending.written.wait()
        except trio.Cancelled:
            self._forget_waiter(pending)
            raise
        if pending.failure is not None:
            self._forget_waiter(pending)
            raise ShardError(pending.failure.error_class, pending.failure.message, key=pending.row.key)
        if pending.waiter is not None:
            await self._steps.wait(pending.shard, pending.waiter)

    async def register_all(self, registrations: Sequence[Registration]) -> list[Failure | None]:
        """Takes all in that can be; gives for each, in order, why it could not be taken in (None: it was)."""
        begun: list[Pending | Failure] = []
        for registration in registrations:
            try:
                begun.append(self._begin(registration, None))
            except ShardError as error:
                begun.append(error.failure)
            if len(begun) % IN_ONE_TRANSACTION == 0:
                await trio.lowlevel.checkpoint()
        for pending in begun:
            if isinstance(pending, Pending):
                await pending.written.wait()
        return [pending.failure if isinstance(pending, Pending) else pending for pending in begun]

    def _begin(self, registration: Registration, add_waiter: Callable[[], Waiter] | None) -> Pending:
        key = registration.key
        row = registration.row()
        if key in self._shards or key in self._keys:
            raise ShardError(ErrorClass.EXISTS, f"a shard with the key {key!r} exists already", key=key)
        shard = Shard(key, Life(), self._store)
        pending = Pending(row, shard, None if add_waiter is None else add_waiter(), actor())
        if not self._queue:
            self._nursery.start_soon(self._write)
        self._queue.append(pending)
        self._keys.add(key)
        return pending

    def _forget_waiter(self, pending: Pending) -> None:
        if pending.waiter is not None:
            self._steps.apply(pending.shard, Withdraw(pending.waiter))
            self._steps.waiters.forget(pending.waiter)
            pending.waiter = None

    async def _write(self) -> None:
        """Writes what is in the queue, and what comes while it does."""
        try:
            await trio.lowlevel.checkpoint()  # for all of this turn
            while self._queue:
                together = list(itertools.islice(self._queue, IN_ONE_TRANSACTION))
                await self._write_all(together)
                for _ in together:
                    self._done()
        finally:
            while self._queue:  # the dagstore ends
                self._queue[0].failure = STOPPING
                self._done()

    def _done(self) -> None:
        pending = self._queue.popleft()
        self._keys.discard(pending.row.key)
        pending.written.set()

    async def _write_all(self, together: Sequence[Pending]) -> None:
        """In one transaction; if that cannot be, each by itself, so that each gets its own answer. In a thread, since
        nobody else can know of these shards before they are written."""
        planned = self._steps.plan([_move(pending) for pending in together])
        puts = [one.put for one in planned if one.put is not None]
        try:
            await trio.to_thread.run_sync(self._store.put_new, puts)
        except ShardError as error:
            if len(together) == 1:
                together[0].failure = error.failure
                return
            for pending in together:
                await self._write_all([pending])
            return
        for pending in together:
            self._shards[pending.row.key] = pending.shard
        self._steps.carry_out(planned)


def _move(pending: Pending) -> Move:
    event = Register() if pending.row.lazy else Initialise(pending.waiter)
    return Move(pending.shard, event, row=pending.row, by=pending.actor)
