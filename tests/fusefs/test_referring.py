"""Blocks of an import by reference, as the mount reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from carlib.cid import RAW, Cid
from carlib.errors import BlockNotFound
from carlib.references import BrokenReference
from carlib.references.packing import pack_references
from fusefs.referring import NOWHERE, ReferringBlocks

MIB = 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(3 * MIB))
    return path


@pytest.fixture
def blocks(tmp_path: Path, source: Path) -> Iterator[ReferringBlocks]:
    pack_references(source, tmp_path / "made.car", folder=Path("/"))
    with ReferringBlocks.at(tmp_path / "made.car", Path("/"), None) as found:
        yield found


def test_every_block_is_listed_once_with_its_size_and_is_what_it_says(blocks: ReferringBlocks) -> None:
    listed = list(blocks.cids())
    assert len({cid.multihash for cid, _ in listed}) == len(listed)
    for cid, location in listed:
        data = blocks.get(cid)
        assert Cid.of(data, cid.codec) == cid
        assert (blocks.has(cid), blocks.size(cid), location.size) == (True, len(data), len(data))
        assert blocks.read(cid, 5, 50) == data[5:50]
    assert blocks.roots[0] in [cid for cid, _ in listed]


def test_leaves_lie_in_no_place_of_the_car(blocks: ReferringBlocks) -> None:
    for cid, _ in blocks.cids():
        location = blocks.locate(cid)
        assert location is not None
        assert (location.data_offset == NOWHERE) is (cid.codec == RAW)


def test_what_is_read_in_parts_is_verified_and_kept_as_it_was(blocks: ReferringBlocks, source: Path) -> None:
    leaf = next(cid for cid, _ in blocks.cids() if cid.codec == RAW)
    before = blocks.read(leaf, 0, 100)
    source.write_bytes(bytes(3 * MIB))
    assert blocks.read(leaf, 0, 100) == before
    with pytest.raises(BrokenReference):
        blocks.get(leaf)


def test_a_block_that_is_nowhere_is_not_found(blocks: ReferringBlocks) -> None:
    other = Cid.of(b"other")
    assert (blocks.has(other), blocks.locate(other)) == (False, None)
    with pytest.raises(BlockNotFound):
        blocks.get(other)
