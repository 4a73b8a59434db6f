"""Open shards: few, leased while open, never closed under a reader."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from carlib.cid import Cid
from fusefs.errors import ShardBroken, StaleNode
from fusefs.shard import Shard
from fusefs.stores import OpenShard, Stores
from fusefs.waits import Waits
from tests.fusefs.catalogues import CountingCatalogue, catalogue_of
from tests.fusefs.mounts import write_car

BLOCKS = [(Cid.of(b"%d" % number), b"%d" % number) for number in range(5)]


@pytest.fixture
def catalogue(tmp_path: Path) -> CountingCatalogue:
    cars = [write_car(tmp_path / f"{number}.car", [block], [block[0]]) for number, block in enumerate(BLOCKS)]
    return catalogue_of(*cars)


def shards_of(catalogue: CountingCatalogue, stores: Stores) -> list[Shard]:
    waits = Waits()
    return [Shard(record, stores, waits) for record in catalogue.records().values()]


def test_a_shard_is_opened_once_and_leased_while_open(catalogue: CountingCatalogue) -> None:
    stores = Stores(catalogue, idle_s=0)
    shard = shards_of(catalogue, stores)[0]
    with stores.use(shard) as first, stores.use(shard) as second:
        assert first is second
        stores.sweep()
        assert catalogue.leases == ["0"]
        assert first.blocks.get(BLOCKS[0][0]) == b"0"
    stores.sweep()
    assert (catalogue.leases, len(stores)) == ([], 0)


def test_an_idle_shard_stays_open_for_a_while(catalogue: CountingCatalogue) -> None:
    stores = Stores(catalogue, idle_s=1000)
    shard = shards_of(catalogue, stores)[0]
    with stores.use(shard):
        pass
    stores.sweep()
    assert catalogue.leases == ["0"]
    stores.close()
    assert len(stores) == 0


def test_of_too_many_the_longest_unused_are_closed_but_none_in_use(catalogue: CountingCatalogue) -> None:
    stores = Stores(catalogue, most=2, idle_s=1000)
    shards = shards_of(catalogue, stores)
    with stores.use(shards[0]):
        for shard in shards[1:]:
            with stores.use(shard):
                pass
        stores.sweep()
        assert sorted(catalogue.leases) == ["0", "4"]


def test_what_cannot_be_opened_is_not_leased(catalogue: CountingCatalogue, tmp_path: Path) -> None:
    stores = Stores(catalogue)
    shards = shards_of(catalogue, stores)
    (tmp_path / "0.car").unlink()
    with (tmp_path / "1.car").open("ab") as file:
        file.write(b"more")
    for shard, what in ((shards[0], "is gone"), (shards[1], "is no longer the file that was indexed")):
        with pytest.raises(ShardBroken, match=what):
            stores.hold(shard)
    assert catalogue.leases == []


def test_a_shard_that_is_another_one_now_is_stale(catalogue: CountingCatalogue) -> None:
    stores = Stores(catalogue)
    records = catalogue.records()
    shard = Shard(records["0"], stores, Waits())
    shard.key = "1"
    with pytest.raises(StaleNode):
        stores.hold(shard)
    assert catalogue.leases == []


def test_peek_gives_only_what_is_in_memory_and_only_while_unchanged(
    catalogue: CountingCatalogue, tmp_path: Path
) -> None:
    opened = OpenShard(catalogue.records()["0"])
    try:
        assert opened.peek(0, 11) in (None, (tmp_path / "0.car").read_bytes()[:11])
        assert opened.peek(0, 1 << 20) is None
        os.utime(tmp_path / "0.car", ns=(1, 1))
        assert opened.peek(0, 11) is None
    finally:
        opened.close()


def test_i9_a_shard_that_somebody_reads_is_never_closed_under_him(catalogue: CountingCatalogue) -> None:
    """I-9: of too many open blockstores the cache closed one that was being read."""
    stores = Stores(catalogue, most=1, idle_s=0.0)
    first, *others = shards_of(catalogue, stores)
    with first.use() as held:
        for other in others:
            with other.use() as opened:
                assert opened.blocks.roots
        stores.sweep()
        assert held.blocks.get(BLOCKS[0][0]) == BLOCKS[0][1]
    stores.sweep()
    assert len(stores) == 0
