"""The repairer: gets good bytes for what is in quarantine from a shard's replicas, in their order.

Each block is taken from the first replica that has it good, so that two replicas that are both damaged, in different
places, still make one whole shard.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from agent.dagstore import mounts
from agent.dagstore.failures import ShardError
from agent.dagstore.records import IndexFacts, ShardRow
from agent.dagstore.scrub import progress, repairs
from agent.dagstore.scrub.records import ScrubState
from agent.dagstore.scrub.replicas import Mismatch, Replica, Replicas


class Repairer:
    """Writes repairs into `directory`, where nothing else is."""

    def __init__(self, replicas: Replicas, directory: Path) -> None:
        self.directory = directory
        self.replicas = replicas

    async def repaired(
        self, row: ShardRow, state: ScrubState, now: Callable[[], str]
    ) -> tuple[ScrubState, list[str]]:
        """The state with what could be repaired, whose file is on disk; and, for people, why the rest could not.

        Nothing is left behind by a cancel but a file that the next start sweeps away.
        """
        facts = row.index
        assert facts is not None
        wanted = {one.offset: one.size for one in state.bad}
        sections: dict[int, bytes] = {}
        sources: dict[int, str] = {}
        troubles: list[str] = []
        for url in row.replicas:
            missing = {offset: size for offset, size in wanted.items() if offset not in sections}
            if not missing:
                break
            try:
                replica = await self.replicas.find(url, facts)
            except (Mismatch, ShardError) as error:
                troubles.append(f"replica {mounts.shown(url)}: {error}")
                continue
            found = await self._from_replica(replica, facts, missing, troubles)
            sections |= found
            sources |= dict.fromkeys(found, mounts.shown(url))
        if not sections:
            return state, troubles
        made = partial(repairs.write, self.directory, row.key, facts.name, state.repairs, sections)
        try:
            written = await trio.to_thread.run_sync(made)
        except ShardError as error:
            return state, [*troubles, str(error)]
        return progress.repaired(state, written, sources, now()), troubles

    async def _from_replica(
        self, replica: Replica, facts: IndexFacts, wanted: dict[int, int], troubles: list[str]
    ) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        for offset, size in wanted.items():
            if sum(map(len, found.values())) > repairs.MAX_REPAIR_BYTES:
                break
            try:
                found[offset] = await self.replicas.sections(replica, facts, offset, size)
            except Mismatch as error:
                troubles.append(f"replica {mounts.shown(replica.url)}: {size} bytes at {offset}: {error}")
            except ShardError as error:  # it would be the same with the next block
                troubles.append(f"replica {mounts.shown(replica.url)}: {error}")
                break
        return found
