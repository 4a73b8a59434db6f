"""One mount's life: what is started in which order, what ends it, and how it is taken down."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from fusefs import memory, mounting, operations, top
from fusefs.catalogue import Catalogue, Change, What
from fusefs.shards import Shards
from fusefs.stores import Opener, OpenShard, Stores
from fusefs.tree import SHARDS
from fusefs.waits import Waits

if TYPE_CHECKING:
    from fusefs.of_agent import OfAgent

logger = logging.getLogger(__name__)

DEADLINE_S = 30.0
"""How long a request may wait for data, unless the command says otherwise."""
SETTLE_S = 10.0
"""How long a directory that was copied into must rest before it is imported."""
_SWEEP_S = 2.0
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
        self._of_agent: OfAgent | None = None

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
            parts: OfAgent | None = None
            if of_agent:
                from fusefs.of_agent import OfAgent  # 30 ms, that a mount of CAR files has no use for

                parts = self._of_agent = OfAgent.of(
                    self._catalogue,
                    shards,
                    self._stores,
                    self._waits,
                    self._mountpoint,
                    self._changed,
                    self._settle_s,
                )
                root = top.of_agent(
                    parts.shards, parts.folder, parts.retrievals_folder, self._catalogue, parts.ipfs
                )
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
                await trio.to_thread.run_sync(self._of_agent.sweep)

    def _changed(self, change: Change) -> None:
        """Told by the catalogue, between two awaits: from here on everybody sees the change."""
        if self._shards is None or self._tree is None:
            return  # the snapshot that the tree is about to be made from has it already
        parts = self._of_agent
        if change.record.what is not What.SHARD:
            if parts is None:
                return
            where, gone = parts.apply(change, time.time_ns())
        else:
            where, gone = SHARDS, self._shards.apply(change, time.time_ns())
        if gone is not None and parts is not None:
            parts.ipfs.forget_all()
        if gone is not None:
            self._tree.invalidate((where,), gone.name, gone.version, gone=gone.is_deleted)
