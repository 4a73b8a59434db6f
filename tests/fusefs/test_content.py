"""Reading a file of a DAG through one handle, without a mount."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from carlib import dagpb
from carlib.cid import DAG_PB, Cid
from carlib.dagpb import PBLink, PBNode
from carlib.errors import HashMismatch
from carlib.unixfs.node import Data, DataType
from fusefs.content import DagContent, FileLeaves, WholeBlock
from fusefs.waits import Waits
from tests.fusefs.catalogues import shard_of
from tests.fusefs.mounts import write_car

MIB = 1 << 20
Block = tuple[Cid, bytes]


def file_of(leaves: Sequence[Block]) -> Block:
    """A file node over raw leaves."""
    sizes = tuple(len(data) for _, data in leaves)
    data = Data(DataType.FILE, filesize=sum(sizes), blocksizes=sizes).encode()
    block = dagpb.encode(PBNode(tuple(PBLink(cid) for cid, _ in leaves), data))
    return Cid.of(block, DAG_PB), block


def leaves_of(data: bytes, size: int) -> list[Block]:
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return [(Cid.of(part), part) for part in parts]


class Reader:
    """One handle on a file of these leaves."""

    def __init__(self, folder: Path, leaves: Sequence[Block], waits: Waits | None = None) -> None:
        root = file_of(leaves)
        self.size = sum(len(data) for _, data in leaves)
        car = write_car(folder / "file.car", [*dict.fromkeys(leaves), root], [root[0]])
        self.waits = waits or Waits()
        self.shard = shard_of(car, self.waits)
        self.content = DagContent(self.shard, FileLeaves(root[0], self.size))

    async def read(self, offset: int, size: int) -> bytes:
        data = self.content.read_nowait(offset, size)
        return bytes(data if data is not None else await self.content.read(offset, size))


@pytest.mark.parametrize("leaf_bytes", [1000, 256 * 1024, MIB, 3 * MIB // 2])
async def test_a_sequential_reader_gets_all_and_holds_little(tmp_path: Path, leaf_bytes: int) -> None:
    data = random.Random(leaf_bytes).randbytes(3 * MIB if leaf_bytes < MIB else 12 * MIB)
    reader = Reader(tmp_path, leaves_of(data, leaf_bytes))
    got, most = [], 0
    for offset in range(0, len(data) + MIB, 128 * 1024):
        got.append(await reader.read(offset, 128 * 1024))
        most = max(most, reader.waits.ahead.held)
    assert b"".join(got) == data
    assert most <= 8 * MIB
    reader.content.close()
    assert reader.waits.ahead.held == 0


async def test_any_reads_in_any_order_are_right(tmp_path: Path) -> None:
    chance = random.Random(5)
    for _ in range(40):
        sizes = [chance.randrange(1, 5000) for _ in range(chance.randrange(1, 12))]
        reads = [(chance.randrange(40_000), chance.randrange(20_000)) for _ in range(25)]
        await _read_all(tmp_path, sizes, reads)


async def _read_all(tmp_path: Path, sizes: list[int], reads: list[tuple[int, int]]) -> None:
    chance = random.Random(sum(sizes))
    parts = [chance.randbytes(size) for size in sizes]
    data = b"".join(parts)
    reader = Reader(tmp_path, [(Cid.of(part), part) for part in parts])
    for offset, size in reads:
        assert await reader.read(offset, size) == data[offset : offset + size]
    reader.content.close()


async def test_a_part_of_a_verified_leaf_is_read_without_a_thread(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(8 * MIB)
    reader = Reader(tmp_path, leaves_of(data, MIB))
    assert reader.content.read_nowait(5 * MIB + 100, 4096) is None
    assert await reader.read(5 * MIB + 100, 4096) == data[5 * MIB + 100 : 5 * MIB + 4196]
    assert reader.content.read_nowait(5 * MIB + 9000, 4096) == data[5 * MIB + 9000 : 5 * MIB + 13096]
    assert reader.content.read_nowait(6 * MIB - 100, 4096) is None
    reader.content.close()


async def test_the_bytes_beside_a_corrupt_leaf_are_given(tmp_path: Path) -> None:
    leaves = leaves_of(random.Random(2).randbytes(MIB), 64 * 1024)
    leaves[3] = (leaves[3][0], b"x" * 64 * 1024)
    reader = Reader(tmp_path, leaves)
    with pytest.raises(HashMismatch):
        await reader.read(0, MIB)
    assert await reader.read(0, 3 * 64 * 1024) == b"".join(data for _, data in leaves[:3])
    assert await reader.read(4 * 64 * 1024, 1000) == leaves[4][1][:1000]
    with pytest.raises(HashMismatch):
        await reader.read(4 * 64 * 1024 - 1, 2)
    reader.content.close()


async def test_a_block_shown_whole_is_its_bytes(tmp_path: Path) -> None:
    block = file_of(leaves_of(b"some data", 4))
    shard = shard_of(write_car(tmp_path / "a.car", [block], [block[0]]))
    content = DagContent(shard, WholeBlock(block[0], len(block[1])))
    assert bytes(await content.read(0, 1000)) == block[1]
    assert content.read_nowait(1000, 10) == b""
    content.close()


async def test_readers_do_not_read_ahead_beyond_the_common_bound(tmp_path: Path) -> None:
    waits = Waits(bytes_ahead=2 * MIB)
    reader = Reader(tmp_path, leaves_of(random.Random(3).randbytes(10 * MIB), MIB), waits)
    await reader.read(0, 4096)
    assert waits.ahead.held <= 3 * MIB
    reader.content.close()
