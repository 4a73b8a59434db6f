"""A shard as its nodes and handles know it: what it is, whose threads it takes, how its files are reached."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager

from carlib.cid import Cid
from fusefs.catalogue import ShardRecord, What
from fusefs.origin import Opened
from fusefs.stores import OpenShard, Stores
from fusefs.waits import Waits


class Shard:
    """One shard for as long as its bytes are the same; nodes and handles hold on to it, never to its files."""

    def __init__(self, record: ShardRecord, stores: Stores, waits: Waits) -> None:
        self.key = record.key
        self.record = record
        self.stores = stores
        self.waits = waits
        self.lane = waits.data.lane()
        self.names_lane = waits.names.lane()
        self._bound = record.version_key if record.readable else None
        self._lock = threading.Lock()
        self._roots: tuple[Cid, ...] | None = None
        self.missing_roots: tuple[str, ...] | None = None
        """Roots whose blocks are not in the CAR; None until somebody has looked."""

        self.rendered_size: int | None = None
        """Bytes of `data.car` of an import by reference; None until somebody has looked, or if there is none."""
        self.obstacle = ""
        """Why there is none."""

    def roots(self, opened: OpenShard) -> tuple[Cid, ...]:
        """The CAR's roots as its header has them, each once; may block."""
        if self._roots is None or self.record.growing:
            roots = tuple(dict.fromkeys(opened.blocks.roots))
            self.missing_roots = tuple(str(root) for root in roots if not opened.blocks.has(root))
            self._roots = roots
        return self._roots

    @property
    def label(self) -> str:
        """For messages."""
        record = self.record
        return self.key if record.what is What.SHARD else f"{record.what} {os.fsdecode(record.name)}"

    @property
    def mtime_ns(self) -> int:
        return self.record.mtime_ns

    def facts(self) -> Mapping[str, str]:
        return {"state": self.record.state, "mount": self.record.url}

    def hold_nowait(self) -> OpenShard | None:
        return self.stores.hold_nowait(self)

    def drop(self, opened: Opened) -> None:
        assert isinstance(opened, OpenShard)
        self.stores.drop(opened)

    def use(self) -> AbstractContextManager[OpenShard]:
        """The shard's files while a block runs; may block."""
        return self.stores.use(self)

    def accepts(self, record: ShardRecord) -> bool:
        """Whether `record` is this shard still; one that was not readable yet becomes what it is when first read."""
        with self._lock:
            if self._bound is None:
                self._bound, self.record = record.version_key, record
            return self._bound == record.version_key

    def is_now(self, record: ShardRecord) -> bool:
        """Whether nodes made for this shard hold for `record` too; then `record` is the newer knowledge."""
        with self._lock:
            same = record.key == self.key and (
                self._bound in (None, record.version_key) or not record.readable
            )
            if same:
                self.record = record
            return same
