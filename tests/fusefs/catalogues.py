"""Shards over files, without a mount."""

from __future__ import annotations

from pathlib import Path

from fusefs.catalogue import ShardRecord
from fusefs.local_catalogue import LocalCatalogue
from fusefs.shard import Shard
from fusefs.stores import Stores
from fusefs.waits import Waits


class CountingCatalogue(LocalCatalogue):
    """Tells which leases are held."""

    def __init__(self, records: dict[str, ShardRecord]) -> None:
        super().__init__(records)
        self.leases: list[str] = []

    def acquire(self, key: str) -> ShardRecord:
        self.leases.append(key)
        return super().acquire(key)

    def release(self, key: str) -> None:
        self.leases.remove(key)


def catalogue_of(*cars: Path) -> CountingCatalogue:
    """The CARs as shards; indices beside the first."""
    opened = LocalCatalogue.open(cars, cars[0].parent / "cache", lambda _: lambda _done, _all: None)
    return CountingCatalogue(dict(opened.records()))


def shard_of(car: Path, waits: Waits | None = None) -> Shard:
    """One CAR as a shard."""
    catalogue = catalogue_of(car)
    return Shard(next(iter(catalogue.records().values())), Stores(catalogue), waits or Waits())
