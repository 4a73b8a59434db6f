"""What makes the index of a shard: the registry of indexers, of which each shard names one when it is registered.

An indexer is a function of the data and of the index's path, run in a worker process; a new one is one line in
`INDEXERS`, and one in `CHECKS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from agent.dagstore.failures import ErrorClass, ShardError
from carlib.limits import MIB
from carlib.source import ByteSource

if TYPE_CHECKING:
    from carlib.container import Container
    from carlib.index import Index as CarIndex
    from carlib.indexing import IndexReport  # numpy, which only workers need
    from carlib.stretch import Stretch

DEFAULT = "car"

INDEXERS: dict[str, str] = {
    DEFAULT: "carlib.indexing:build",  # one CAR
    "aggregate": "carlib.piece.cars:build",  # several in one piece (FRC-0058, "PoDSI"); else as "car"
}


CHECKS: dict[str, str] = {  # what verifies data that such an indexer has indexed
    DEFAULT: "carlib.stretch:check",
    "aggregate": "carlib.piece.cars:check",
}


class Index(Protocol):
    """What an indexer is."""

    def __call__(
        self,
        data: Path | ByteSource,
        out: Path,
        *,
        progress: Callable[[int, int], None] | None = None,
        window_bytes: int = MIB,
    ) -> IndexReport:
        """Indexes the file at a path, or a source, into `out`, which appears complete and on disk or not at all.

        `window_bytes`: what is read at once of small blocks. Raises CarError, OSError."""


class Check(Protocol):
    """What verifies: `carlib.stretch.check`."""

    def __call__(
        self,
        source: ByteSource,
        container: Container,
        index: CarIndex,
        start: int,
        until: int,
        *,
        hashes: bool = True,
        compare: bool = True,
    ) -> Stretch:
        """See there."""


def check(name: str) -> None:
    """Raises ShardError(invalid) unless there is an indexer of that name."""
    if name not in INDEXERS:
        known = ", ".join(sorted(INDEXERS))
        raise ShardError(ErrorClass.INVALID, f"there is no indexer {name!r}; there is {known}")


def load(name: str) -> Index:
    """The indexer of that name, imported now; raises ShardError(invalid)."""
    check(name)
    found: Index = _imported(INDEXERS[name])
    return found


def load_check(name: str) -> Check:
    """What verifies the data that the indexer of that name has indexed, imported now; raises ShardError(invalid)."""
    check(name)
    found: Check = _imported(CHECKS[name])
    return found


def _imported(name: str) -> Any:  # Any: what is called that
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
