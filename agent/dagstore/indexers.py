"""What makes the index of a shard: the registry of indexers, of which each shard names one when it is registered.

An indexer is a function of the data's path and the index's, run in a worker process; a new one is one line in
`INDEXERS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from agent.dagstore.failures import ErrorClass, ShardError

if TYPE_CHECKING:
    from carlib.indexing import IndexReport  # numpy, which only workers need

DEFAULT = "car"

INDEXERS: dict[str, str] = {
    DEFAULT: "carlib.indexing:build",  # one CAR
    "aggregate": "carlib.piece.cars:build",  # several in one piece (FRC-0058, "PoDSI"); else as "car"
}


class Index(Protocol):
    """What an indexer is."""

    def __call__(
        self, path: Path, out: Path, *, progress: Callable[[int, int], None] | None = None
    ) -> IndexReport:
        """Indexes the file `path` into `out`, which appears complete and on disk or not at all.

        Raises CarError, OSError."""


def check(name: str) -> None:
    """Raises ShardError(invalid) unless there is an indexer of that name."""
    if name not in INDEXERS:
        known = ", ".join(sorted(INDEXERS))
        raise ShardError(ErrorClass.INVALID, f"there is no indexer {name!r}; there is {known}")


def load(name: str) -> Index:
    """The indexer of that name, imported now; raises ShardError(invalid)."""
    check(name)
    module, _, function = INDEXERS[name].partition(":")
    found: Index = getattr(importlib.import_module(module), function)
    return found
