"""A shard is indexed by the indexer that it was registered with; one of them reads aggregates of many CARs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from agent.dagstore.failures import ErrorClass, ShardError
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.errors import CarError
from carlib.piece import aggregate, cars, fr32
from carlib.piece.commitment import commit
from carlib.piece.sector import place
from tests.agent.cars import CID, write_car
from tests.agent.stores import dagstore_at
from tests.conftest import ExpectWarning
from tests.fusefs.mounts import write_car as write_blocks

PADDED = 1 << 16


def write_aggregate(path: Path, payloads: Sequence[bytes], padded: int = PADDED) -> Path:
    """The unpadded bytes of an aggregate of these pieces."""
    pieces = [commit(payload) for payload in payloads]
    data = bytearray(fr32.unpad(bytes(padded)))
    for payload, at in zip(payloads, place([piece.padded_size for piece in pieces]), strict=True):
        data[at.unpadded_offset : at.unpadded_offset + len(payload)] = payload
    _, index = aggregate.build(pieces, padded)
    data[len(data) - len(index) // 128 * 127 :] = fr32.unpad(index)
    path.write_bytes(data)
    return path


def payload(folder: Path, name: bytes, *, version: int = 1) -> bytes:
    """A CAR with three blocks of that name."""
    blocks = [(Cid.of(name * count), name * count) for count in (1, 2, 30)]
    return write_blocks(folder / "part.car", blocks, [blocks[0][0]], version=version).read_bytes()


async def test_i10_a_piece_of_several_cars_is_one_shard_with_the_blocks_of_all(tmp_path: Path) -> None:
    """I-10: pieces that hold several CARs were not handled."""
    parts = [
        payload(tmp_path, b"one"),
        b"no CAR at all",
        payload(tmp_path, b"two"),
        payload(tmp_path, b"three", version=2),
    ]
    piece = write_aggregate(tmp_path / "piece", parts)
    async with dagstore_at(tmp_path) as dagstore:
        await dagstore.register("piece", str(piece), wait=True, indexer="aggregate")
        record = await dagstore.acquire("piece")
        for name in (b"one", b"two", b"three"):
            assert await dagstore.lookup(Cid.of(name * 30)) == ["piece"]
    assert (record.blocks, record.roots) == (
        9,
        tuple(str(Cid.of(name)) for name in (b"one", b"two", b"three")),
    )
    assert record.index_path is not None
    with ReadOnlyBlockstore.open(piece, index=Path(record.index_path)) as blocks:
        for name in (b"one", b"two", b"three"):
            assert blocks.get(Cid.of(name * 2)) == name * 2


async def test_i10_an_aggregate_is_one_car_to_who_does_not_ask_for_more(tmp_path: Path) -> None:
    piece = write_aggregate(tmp_path / "piece", [payload(tmp_path, b"one"), payload(tmp_path, b"two")])
    async with dagstore_at(tmp_path) as dagstore:
        await dagstore.register("piece", str(piece), wait=True)
        assert await dagstore.lookup(Cid.of(b"one")) == ["piece"]
        assert await dagstore.lookup(Cid.of(b"two")) == []


async def test_the_indexer_of_a_shard_outlives_a_restart(tmp_path: Path) -> None:
    piece = write_aggregate(tmp_path / "piece", [payload(tmp_path, b"one"), payload(tmp_path, b"two")])
    async with dagstore_at(tmp_path) as dagstore:
        await dagstore.register("piece", str(piece), lazy=True, indexer="aggregate")
    async with dagstore_at(tmp_path) as dagstore:
        await dagstore.acquire("piece")
        with trio.fail_after(10):
            assert await dagstore.lookup(Cid.of(b"two")) == ["piece"]


async def test_what_is_no_aggregate_is_indexed_as_the_car_that_it_is(tmp_path: Path) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await dagstore.register("x", str(write_car(tmp_path / "x.car")), wait=True, indexer="aggregate")
        assert await dagstore.lookup(CID) == ["x"]


async def test_an_indexer_that_there_is_not_is_refused(tmp_path: Path) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        with pytest.raises(ShardError, match="no indexer 'none'; there is aggregate, car") as raised:
            await dagstore.register("x", str(write_car(tmp_path / "x.car")), indexer="none")
        assert raised.value.error_class is ErrorClass.INVALID
        assert dagstore.list_keys() == []


async def test_a_damaged_car_in_an_aggregate_is_corrupt(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("ERRORED")
    part = bytearray(payload(tmp_path, b"two"))
    part[61:71] = b"\xff" * 10  # the length of a section
    piece = write_aggregate(tmp_path / "piece", [payload(tmp_path, b"one"), bytes(part)])
    async with dagstore_at(tmp_path) as dagstore:
        with pytest.raises(ShardError) as raised:
            await dagstore.register("piece", str(piece), wait=True, indexer="aggregate")
        assert raised.value.error_class is ErrorClass.CORRUPT


def test_an_aggregate_whose_first_car_hides_the_others_says_so(tmp_path: Path) -> None:
    piece = write_aggregate(
        tmp_path / "piece", [payload(tmp_path, b"one", version=2), payload(tmp_path, b"two")]
    )
    with pytest.raises(CarError, match="begins with a CARv2"):
        cars.build(piece, tmp_path / "out")
    assert not (tmp_path / "out").exists()
