"""One mount's life: what is started in which order, what ends it, and how it is taken down."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from fusefs import memory, mounting, operations, top
from fusefs.agent_catalogue import AgentCatalogue
from fusefs.agent_changes import AgentChanges
from fusefs.catalogue import Catalogue, Change
from fusefs.everything import Everything
from fusefs.imports import NAME as IMPORTS
from fusefs.imports import SETTLE_S, ImportsFolder
from fusefs.registered import NAME as SHARDS
from fusefs.registered import ShardsFolder
from fusefs.shards import Shards
from fusefs.staging import Staging
from fusefs.stores import Opener, OpenShard, Stores
from fusefs.views import ipfs
from fusefs.views.ipfs import IpfsFolder
from fusefs.waits import Waits
from fusefs.writers import staging as staging_folder
from fusefs.writers import writers

logger = logging.getLogger(__name__)

DEADLINE_S = 30.0
"""How long a request may wait for data, unless the command says otherwise."""
_SWEEP_S = 2.0
_SETTLE_LOOK_S = 0.5
_STOP_GRACE_S = 2.0
"""What requests under way get to end by themselves when the mount is stopped."""


class Mount:
    """A mount of `catalogue` on `mountpoint`; `made` and `run` once each, in one process."""

    def __init__(
        self,
        catalogue: Catalogue,
        mountpoint: Path,
        options: set[str],
        *,
        deadline_s: float = DEADLINE_S,
        settle_s: float = SETTLE_S,
        opener: Opener = OpenShard,
    ) -> None:
        self._catalogue = catalogue
        self._mountpoint = mountpoint
        self._options = options
        self._waits = Waits(deadline_s=deadline_s)
        self._settle_s = settle_s
        self._stores = Stores(catalogue, opener=opener)
        self._shards: Shards | None = None
        self._tree: operations.Tree | None = None
        self._of_agent: _OfAgent | None = None

    async def run(self, ready: Callable[[], None], *, of_agent: bool) -> None:
        """Mounts, calls `ready` once the mount answers, and serves until it is unmounted or a signal comes.

        Raises mounting.Refused if the kernel or fusermount3 does not mount it.
        """
        # Parsing in a thread must not keep the loop from a request for the usual 5 ms.
        sys.setswitchinterval(0.001)
        memory.keep_buffers()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._catalogue.run, self._changed)
            shards = self._shards = Shards(self._catalogue, self._stores, self._waits)
            parts: _OfAgent | None = None
            if of_agent:
                assert isinstance(self._catalogue, AgentCatalogue)
                parts = self._of_agent = self._parts(self._catalogue, shards)
                root = top.of_agent(parts.shards, parts.folder, self._catalogue, parts.ipfs)
            else:
                root = await trio.to_thread.run_sync(top.of_files, shards)
            tree = self._tree = operations.Tree(root, self._waits)
            tree.usage = shards.usage
            if parts is not None:
                parts.begin(tree)
                await trio.to_thread.run_sync(parts.folder.resume)
            try:
                operations.mount(tree, self._mountpoint, self._options)
            except RuntimeError as error:
                raise mounting.Refused(f"{self._mountpoint} could not be mounted on ({error})") from None
            try:
                nursery.start_soon(self._announce, ready)
                nursery.start_soon(self._sweep)
                if parts is not None:
                    nursery.start_soon(parts.settle)
                await self._serve()
            finally:
                operations.unmount()
                self._stores.close()
                if parts is not None:
                    await parts.end()
                logger.info("unmounted from %s", self._mountpoint)
                nursery.cancel_scope.cancel()

    def _parts(self, catalogue: AgentCatalogue, shards: Shards) -> _OfAgent:
        token = trio.lowlevel.current_trio_token()
        changes = AgentChanges(catalogue, self._changed, token)
        who, staging, stores = writers(catalogue.client), staging_folder(), Stores(catalogue.imports)
        imports = Shards(catalogue.imports, stores, self._waits)
        place = self._mountpoint
        folder = ImportsFolder(
            imports, stores, staging, changes, self._waits, place, writers=who, settle_s=self._settle_s
        )
        return _OfAgent(
            IpfsFolder(Everything(shards, catalogue, self._waits)),
            ShardsFolder(shards, self._stores, changes, place, writers=who),
            imports,
            stores,
            staging,
            folder,
        )

    async def _serve(self) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:

                async def end_on_signal() -> None:
                    async for number in signals:
                        logger.info("%s: unmounting %s", signal.Signals(number).name, self._mountpoint)
                        operations.stop()
                        nursery.cancel_scope.deadline = trio.current_time() + _STOP_GRACE_S

                nursery.start_soon(end_on_signal)
                await operations.serve()
                nursery.cancel_scope.cancel()

    async def _announce(self, ready: Callable[[], None]) -> None:
        try:
            await trio.to_thread.run_sync(self._mountpoint.stat, abandon_on_cancel=True)
            await trio.to_thread.run_sync(mounting.tune, self._mountpoint, abandon_on_cancel=True)
        except OSError as error:  # unmounted already, or a /sys that is not there: no reason to end
            logger.warning("%s: %s", self._mountpoint, error)
        ready()
        # After it, since a background mount has left the terminal by then.
        logger.info("mounted on %s", self._mountpoint)

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(_SWEEP_S)
            await trio.to_thread.run_sync(self._stores.sweep)
            if self._of_agent is not None:
                await trio.to_thread.run_sync(self._of_agent.stores.sweep)

    def _changed(self, change: Change) -> None:
        """Told by the catalogue, between two awaits: from here on everybody sees the change."""
        if self._shards is None or self._tree is None:
            return  # the snapshot that the tree is about to be made from has it already
        parts = self._of_agent
        if change.record.is_import:
            gone = None if parts is None else parts.imports.apply(change, time.time_ns())
            where = IMPORTS
        else:
            gone, where = self._shards.apply(change, time.time_ns()), SHARDS
            if gone is not None and parts is not None:
                parts.ipfs.forget_all()
        if gone is not None:
            self._tree.invalidate((where,), gone.name, gone.version, gone=gone.is_deleted)


@dataclass(frozen=True, slots=True)
class _OfAgent:
    """What a mount of an agent has, beside its shards."""

    ipfs: IpfsFolder
    shards: ShardsFolder
    imports: Shards
    stores: Stores
    staging: Staging
    folder: ImportsFolder

    def begin(self, tree: operations.Tree) -> None:
        """They know the tree from here on, and it them."""
        self.ipfs.forget = lambda name: tree.invalidate((ipfs.NAME,), name, b"", gone=False)
        self.folder.forget = lambda name: tree.invalidate((IMPORTS,), name, b"", gone=False)
        of_shards = tree.usage

        def usage() -> tuple[int, int]:
            (size, blocks), (more, others) = of_shards(), self.imports.usage()
            return size + more, blocks + others

        tree.usage, tree.room = usage, self.staging.free_bytes

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
        self.staging.close()
