"""The dagstore and its indices: each shard's own, which are the truth, and the inverted one, which follows them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from agent.catalogue import Catalogue
from agent.dagstore import index_files
from agent.dagstore.dagstore import Dagstore
from agent.dagstore.records import now_text
from agent.workers.indexing import build_index
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.container import read_container
from carlib.index import Index
from carlib.source import FileSource
from tests.agent.cars import CID, DATA, write_car
from tests.agent.stores import dagstore_at, register
from tests.conftest import ExpectWarning
from tests.fusefs.mounts import write_car as write_blocks

OTHER = b"other data"


async def lookup(dagstore: Dagstore, cid: Cid = CID) -> list[str]:
    with trio.fail_after(30):
        return sorted(await dagstore.lookup(cid))


async def test_a_shard_is_found_by_its_blocks_as_soon_as_it_is_available(tmp_path: Path) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        assert await lookup(dagstore) == ["x"]
        assert await lookup(dagstore, Cid.of(OTHER)) == []
        assert await lookup(dagstore, Cid.identity(b"x")) == []


async def test_any_cid_with_the_multihash_is_the_same_block(tmp_path: Path) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        assert await lookup(dagstore, Cid.v1(0x70, CID.multihash)) == ["x"]
        assert await lookup(dagstore, Cid(CID.multihash)) == ["x"]


async def test_i5_what_is_destroyed_is_found_no_more_and_stays_so(tmp_path: Path) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        for key in ("x", "y"):
            await register(dagstore, key, write_car(tmp_path / f"{key}.car"))
        await dagstore.inverted.wait_complete()
        assert await lookup(dagstore) == ["x", "y"]
        await dagstore.destroy("x")
        assert await lookup(dagstore) == ["y"]
    async with dagstore_at(tmp_path) as dagstore:
        assert await lookup(dagstore) == ["y"]


async def test_i5_a_shard_whose_data_changed_is_found_by_its_new_blocks(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("RECOVERING: the data changed")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        assert await lookup(dagstore) == ["x"]
        write_blocks(tmp_path / "x.car", [(Cid.of(OTHER), OTHER)], [])
        await dagstore.acquire("x")
        assert await lookup(dagstore, Cid.of(OTHER)) == ["x"]
        assert await lookup(dagstore) == []


async def test_i3_an_inverted_index_that_is_lost_is_filled_from_indices_that_are_there(
    tmp_path: Path,
) -> None:
    """I-3: it was not filled when the shard's own index existed already."""
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
    shutil.rmtree(tmp_path / "inverted")
    async with dagstore_at(tmp_path) as dagstore:
        generation = dagstore.record("x").generation
        assert await lookup(dagstore) == ["x"]
        assert (dagstore.record("x").generation, generation) == (1, 1)


async def test_a_restart_takes_over_what_is_there_and_does_no_work(tmp_path: Path) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        await dagstore.inverted.wait_complete()
        before = dagstore.inverted.statistics()
    async with dagstore_at(tmp_path) as dagstore:
        await dagstore.inverted.wait_complete()
        assert dagstore.inverted.statistics() == before


async def test_i1_a_damaged_index_is_noticed_when_it_is_taken_in_and_made_anew(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    """I-1: a broken index was trusted since a file was there; here it has even the right size."""
    expect_warning("AVAILABLE -> RECOVERING: its index file is damaged")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
    shutil.rmtree(tmp_path / "inverted")
    (index,) = (tmp_path / "index").glob("*.idx")
    whole = index.read_bytes()
    index.write_bytes(whole[:-20] + bytes(20))
    async with dagstore_at(tmp_path) as dagstore:
        await dagstore.inverted.wait_complete()
        record = await dagstore.acquire("x")
        assert record.generation == 2
        assert await lookup(dagstore) == ["x"]
        assert record.index_path is not None
        assert Path(record.index_path).read_bytes() == whole


async def test_an_index_of_an_older_version_is_made_anew(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("its index is of an older version")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
    catalogue = Catalogue.open(tmp_path / "carfs.db")
    (row,), (line, *_) = catalogue.shards(), catalogue.history("x")
    assert row.index is not None
    older = msgspec.structs.replace(row.index, format=0, checksum="")
    catalogue.put(msgspec.structs.replace(row, index=older), msgspec.structs.replace(line, at=now_text()))
    catalogue.close()
    async with dagstore_at(tmp_path) as dagstore:
        await dagstore.acquire("x")
        assert dagstore.record("x").generation == 2
        assert await lookup(dagstore) == ["x"]


async def test_what_is_removed_while_it_is_being_taken_in_stays_removed(tmp_path: Path) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        await dagstore.destroy("x")
        await wait_all_tasks_blocked()
        assert await lookup(dagstore) == []


class PowerCut(BaseException):
    """The process is no more."""


@pytest.mark.parametrize("calls", range(1, 8))
def test_i1_an_index_appears_whole_or_not_at_all(
    tmp_path: Path, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-1: it was written in place, and after a crash "an index is there" was all that was asked."""
    out = tmp_path / "out.idx"
    params = {
        "path": str(write_car(tmp_path / "x.car")),
        "scratch": str(tmp_path / "scratch"),
        "out": str(out),
    }
    left = calls

    def cut_at(original: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left <= 0:
                raise PowerCut
            return original(*arguments, **named)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", cut_at(os.fsync))
        patch.setattr(Path, "replace", cut_at(Path.replace))
        patch.setattr(Path, "rename", cut_at(Path.rename))
        patch.setattr(shutil, "rmtree", cut_at(shutil.rmtree))
        try:
            facts = build_index(params, lambda _done, _total: None)
        except PowerCut:
            facts = None
    assert facts is None or facts["checksum"] == index_files.checksum(out)
    if out.exists():
        with FileSource(out) as source:
            assert len(Index.open(source)) == 3


def test_i2_an_index_that_cannot_be_removed_is_not_said_to_be_gone(
    tmp_path: Path, expect_warning: ExpectWarning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-2: dropping an index always reported that it was dropped."""
    expect_warning("cannot remove the old index")
    name = index_files.file_name("x", 1)
    (tmp_path / name).write_bytes(b"x")

    def refuse(path: Path, *, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        assert not index_files.discard(tmp_path, name)
    assert index_files.discard(tmp_path, name)
    assert not (tmp_path / name).exists()


class CountingSource(FileSource):
    """Counts the bytes that are read of it."""

    count = 0

    def pread(self, offset: int, length: int) -> bytes:
        self.count += length
        return super().pread(offset, length)

    def peek(self, offset: int, length: int) -> bytes:
        self.count += length
        return super().peek(offset, length)


async def test_i6_an_index_is_searched_where_it_lies_and_never_loaded(tmp_path: Path) -> None:
    """I-6: each acquire read the whole index into memory."""
    blocks = [(Cid.of(number.to_bytes(4, "big")), number.to_bytes(4, "big")) for number in range(20_000)]
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_blocks(tmp_path / "x.car", blocks, []))
        record = await dagstore.acquire("x")
    assert record.index_path is not None
    with CountingSource(Path(record.index_path)) as index, CountingSource(tmp_path / "x.car") as car:
        found = Index.open(index)
        assert (len(found), index.count < 100) == (20_000, True)
        store = ReadOnlyBlockstore(car, read_container(car), found)
        assert store.get(blocks[77][0]) == blocks[77][1]
        assert index.count + car.count < 50_000  # of 800,000 and more


async def test_i7_the_size_of_a_block_is_told_without_reading_it(tmp_path: Path) -> None:
    """I-7: an index has offsets alone, so sizes were found by reading the data."""
    data = bytes(5_000_000)
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_blocks(tmp_path / "x.car", [(Cid.of(data), data)], []))
        record = await dagstore.acquire("x")
    assert record.index_path is not None
    with CountingSource(tmp_path / "x.car") as car, FileSource(Path(record.index_path)) as index:
        store = ReadOnlyBlockstore(car, read_container(car), Index.open(index))
        before = car.count
        assert store.size(Cid.of(data)) == len(data)
        assert car.count - before <= 128


def test_the_data_is_what_these_tests_think() -> None:
    assert Cid.of(DATA) == CID
