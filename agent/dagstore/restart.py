"""The start of the dagstore: takes over what the catalogue holds, and begins again what the last run left undone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import trio

from agent.catalogue import Store
from agent.dagstore import index_files
from agent.dagstore.actors import acting
from agent.dagstore.failures import ShardError
from agent.dagstore.lifecycle import INDEXING_STATES, Recover, Restarted, ShardState
from agent.dagstore.looking import Looks
from agent.dagstore.settings import DagstoreConfig
from agent.dagstore.shards import Shard, Shards
from agent.dagstore.steps import Move, Steps
from agent.dagstore.transients import Transients

TOGETHER = 256  # shards whose work begins again, in one transaction


class Restart:
    """Fills `shards`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        store: Store,
        shards: Shards,
        steps: Steps,
        looks: Looks,
        transients: Transients,
        index_directory: Path,
        settings: DagstoreConfig,
    ) -> None:
        self._nursery = nursery
        self._store = store
        self._shards = shards
        self._steps = steps
        self._looks = looks
        self._transients = transients
        self._index_directory = index_directory
        self._settings = settings

    async def run(self) -> None:
        """Takes over all shards, removes the last run's orphans, begins again what was cut short.

        What takes a while with many shards (looking at all data, writing what begins again) goes on afterwards.
        """
        never = self._settings.recover_on_start == "never"
        for key, life in self._store.lives():
            shard = self._shards[key] = Shard(key, life, self._store)
            if never and life.state is ShardState.ERRORED:
                shard.retry_at_s = math.inf
        wanted = set(self._store.index_names())
        # Before any work begins, since it removes what is being made.
        await trio.to_thread.run_sync(index_files.sweep, self._index_directory, wanted)
        del wanted
        await self._transients.start(self._shards)
        cut_short = (shard for shard in list(self._shards.values()) if shard.life.state in INDEXING_STATES)
        self._begin_again(itertools.islice(cut_short, TOGETHER))
        self._nursery.start_soon(self._go_on, cut_short)

    async def _go_on(self, cut_short: Iterator[Shard]) -> None:
        with acting("agent: restart"):
            while self._begin_again(itertools.islice(cut_short, TOGETHER)):
                await trio.lowlevel.checkpoint()
            if self._settings.recover_on_start == "now":
                await self._recover_all()
            await self._looks.at_all()

    def _begin_again(self, shards: Iterable[Shard]) -> int:
        """Begins again what was cut short; gives how many there were."""
        some = [shard for shard in shards if shard.life.state in INDEXING_STATES]
        try:
            self._steps.apply_all([Move(shard, Restarted(), by="agent: restart") for shard in some])
        except ShardError:
            for shard in some:
                self._steps.settle(shard, Restarted())
        return len(some)

    async def _recover_all(self) -> None:
        errored = [shard for shard in self._shards.values() if shard.life.state is ShardState.ERRORED]
        for number, shard in enumerate(errored):
            if shard.life.state is ShardState.ERRORED and not shard.row.quarantined:
                self._steps.settle(shard, Recover(None, "recover_on_start"))
            if number % TOGETHER == 0:
                await trio.lowlevel.checkpoint()
