"""The interface of a view."""

from __future__ import annotations

from typing import Protocol

from fusefs.shard import Shard
from fusefs.tree import Node


class View(Protocol):
    """One entry of every shard directory."""

    @property
    def name(self) -> bytes: ...

    def node(self, shard: Shard) -> Node | None:
        """What it shows of this shard; None if it has nothing to show in the shard's state.  May block."""
