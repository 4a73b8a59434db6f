"""Where the bytes of nodes come from: one shard (`shard.py`, `stores.py`), or all of them (`everything.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from carlib import unixfs
from carlib.blockstore import Blocks
from carlib.cid import Cid
from carlib.spanning import RangeBlocks
from fusefs.nearby import Nearby
from fusefs.waits import Lane, Waits


class Opened(Protocol):
    """An origin's files while somebody holds them."""

    @property
    def blocks(self) -> RangeBlocks: ...

    @property
    def resident(self) -> Blocks | None:
        """The same blocks as far as they are in memory (`resident.py`); None where that cannot be told."""

    def folder(self, cid: Cid) -> unixfs.Directory:
        """The parsed directory, from memory if it was used of late."""

    def folder_nowait(self, cid: Cid) -> unixfs.Directory | None:
        """The same if it is in memory."""

    def peek(self, offset: int, size: int) -> bytes | None:
        """Bytes at an offset that `blocks.locate` gave, if the page cache holds all of them and they are unchanged."""

    def nearby(self) -> Nearby | None:
        """Sizes of the leaves of one listing, where that is cheaper than asking `blocks`."""


class Origin(Protocol):
    """What nodes and handles know of where they come from; they hold on to it, never to its files."""

    @property
    def key(self) -> str:
        """The shard's, for messages; empty where it is not one."""

    @property
    def mtime_ns(self) -> int: ...

    @property
    def lane(self) -> Lane: ...

    @property
    def names_lane(self) -> Lane: ...

    @property
    def waits(self) -> Waits: ...

    def facts(self) -> Mapping[str, str]:
        """Extended attributes that all of its nodes have."""

    def use(self) -> AbstractContextManager[Opened]:
        """The files while a block runs; may block."""

    def hold_nowait(self) -> Opened | None:
        """The files if they are open, to be given back by `drop`."""

    def drop(self, opened: Opened) -> None:
        """Lets go of what `hold_nowait` gave."""
