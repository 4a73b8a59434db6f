"""What a mount of an agent has beside its shards: imports, retrievals, everything by CID, and what changes them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from fusefs import operations
from fusefs.agent_catalogue import AgentCatalogue
from fusefs.agent_changes import AgentChanges
from fusefs.agent_records import Changed
from fusefs.catalogue import Catalogue, Change, What
from fusefs.coming import opener
from fusefs.elsewhere import Elsewhere
from fusefs.everything import Everything
from fusefs.imports import ImportsFolder
from fusefs.registered import ShardsFolder
from fusefs.retrievals import RetrievalsFolder
from fusefs.shards import Gone, Shards
from fusefs.staging import Staging
from fusefs.stores import Stores
from fusefs.tree import IMPORTS, RETRIEVALS
from fusefs.views import ipfs
from fusefs.views.ipfs import IpfsFolder
from fusefs.waits import Waits
from fusefs.writers import staging as staging_folder
from fusefs.writers import writers

_SETTLE_LOOK_S = 0.5
_STOP_GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class OfAgent:
    """What a mount of an agent has, beside its shards."""

    ipfs: IpfsFolder
    shards: ShardsFolder
    imports: Shards
    stores: Stores
    staging: Staging
    folder: ImportsFolder
    retrievals: Shards
    retrieved: Stores
    retrievals_folder: RetrievalsFolder

    @classmethod
    def of(
        cls,
        catalogue: Catalogue,
        shards: Shards,
        stores: Stores,
        waits: Waits,
        place: Path,
        changed: Changed,
        settle_s: float,
    ) -> OfAgent:
        """For a mount at `place`, which hears of changes through `changed`."""
        assert isinstance(catalogue, AgentCatalogue)
        changes = AgentChanges(catalogue, changed, trio.lowlevel.current_trio_token())
        who, staging, of_imports = writers(catalogue.client), staging_folder(), Stores(catalogue.imports)
        imports = Shards(catalogue.imports, of_imports, waits)
        retrieved = Stores(catalogue.retrievals, opener=opener(catalogue.client, waits.deadline_s))
        retrievals = Shards(catalogue.retrievals, retrieved, waits)
        return cls(
            IpfsFolder(
                Everything(shards, catalogue, waits), Elsewhere(imports, retrievals, retrieved, changes)
            ),
            ShardsFolder(shards, stores, changes, place, writers=who),
            imports,
            of_imports,
            staging,
            ImportsFolder(
                imports, of_imports, staging, changes, waits, place, writers=who, settle_s=settle_s
            ),
            retrievals,
            retrieved,
            RetrievalsFolder(retrievals, retrieved, changes, writers=who),
        )

    def begin(self, tree: operations.Tree) -> None:
        """They know the tree from here on, and it them."""
        self.ipfs.forget = lambda name: tree.invalidate((ipfs.NAME,), name, b"", gone=False)
        self.folder.forget = lambda name: tree.invalidate((IMPORTS,), name, b"", gone=False)
        of_shards = tree.usage

        def usage() -> tuple[int, int]:
            all_of_them = (of_shards(), self.imports.usage(), self.retrievals.usage())
            return sum(size for size, _ in all_of_them), sum(blocks for _, blocks in all_of_them)

        tree.usage, tree.room = usage, self.staging.free_bytes

    def apply(self, change: Change, now_ns: int) -> tuple[bytes, Gone | None]:
        """Follows a change of what is beside the shards; see `Shards.apply`. Gives the folder too that it is in."""
        if change.record.what is What.IMPORT:
            return IMPORTS, self.imports.apply(change, now_ns)
        return RETRIEVALS, self.retrievals.apply(change, now_ns)

    def sweep(self) -> None:
        """Closes what nobody reads any more; blocks."""
        self.stores.sweep()
        self.retrieved.sweep()

    async def settle(self) -> None:
        """Gives the agent the directories that rest, until cancelled."""
        while True:
            await trio.sleep(_SETTLE_LOOK_S)
            await trio.to_thread.run_sync(self.folder.settle)

    async def end(self) -> None:
        """Gives it what nobody is at work on, if it answers soon; what is left the next mount takes over."""
        with trio.move_on_after(_STOP_GRACE_S, shield=True):
            await trio.to_thread.run_sync(partial(self.folder.settle, at_end=True), abandon_on_cancel=True)
        self.stores.close()
        self.retrieved.close()
        self.staging.close()
