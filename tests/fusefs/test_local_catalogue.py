"""CAR files as shards, and the indices that are kept for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from carlib.cid import Cid
from carlib.errors import Malformed
from fusefs.catalogue import ShardRecord
from fusefs.local_catalogue import LocalCatalogue
from tests.fusefs.mounts import write_car

HELLO = (Cid.of(b"hello"), b"hello")


def open_one(car: Path, cache: Path) -> tuple[ShardRecord, list[int]]:
    """Its record, and what progress was told."""
    told: list[int] = []
    catalogue = LocalCatalogue.open([car], cache, lambda _: lambda done, _all: told.append(done))
    (record,) = catalogue.records().values()
    return record, told


def test_an_index_is_built_once_for_each_state_of_a_file(tmp_path: Path) -> None:
    car, cache = write_car(tmp_path / "a.car", [HELLO], [HELLO[0]], version=1), tmp_path / "cache"
    first, told = open_one(car, cache)
    assert told
    assert (first.readable, first.blocks, first.roots) == (True, 1, (str(HELLO[0]),))
    assert first.index_path is not None
    assert first.index_path.parent == cache
    assert open_one(car, cache) == (first, [])
    os.utime(car, ns=(5, 5))
    changed, told = open_one(car, cache)
    assert told
    assert changed.index_path != first.index_path
    assert len(list(cache.iterdir())) == 2


def test_a_carv2_that_has_an_index_needs_none(tmp_path: Path) -> None:
    record, told = open_one(write_car(tmp_path / "a.car", [HELLO], [HELLO[0]]), tmp_path / "cache")
    assert (record.index_path, record.blocks, record.version, told) == (None, 1, 2, [])


def test_an_index_that_was_cut_short_is_built_anew(tmp_path: Path) -> None:
    car, cache = write_car(tmp_path / "a.car", [HELLO], [HELLO[0]], version=1), tmp_path / "cache"
    record, _ = open_one(car, cache)
    assert record.index_path is not None
    whole = record.index_path.read_bytes()
    os.truncate(record.index_path, 3)
    assert open_one(car, cache)[1]
    assert record.index_path.read_bytes() == whole


def test_the_workers_error_is_the_same_class_here(tmp_path: Path) -> None:
    junk = tmp_path / "junk.car"
    junk.write_bytes(b"\x0fthis is no header")
    with pytest.raises(Malformed, match=r"junk\.car"):
        open_one(junk, tmp_path / "cache")


def test_a_damaged_car_says_how_far_it_is_whole(tmp_path: Path) -> None:
    car = write_car(tmp_path / "a.car", [HELLO, (Cid.of(b"more"), b"more")], [HELLO[0]], version=1)
    os.truncate(car, car.stat().st_size - 1)
    record, _ = open_one(car, tmp_path / "cache")
    assert (record.readable, record.blocks, "ends inside a section" in record.error) == (True, 1, True)
