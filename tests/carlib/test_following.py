"""A CARv2 that is read while it is written."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib.errors import BlockNotFound, CarError, HashMismatch
from carlib.following import FollowedBlockstore
from carlib.readwrite import ReadWriteBlockstore
from tests.carlib.cars import BLOCKS, HELLO, many_blocks

STORED = [(cid, data) for cid, data in BLOCKS if not cid.is_identity]


def test_each_block_is_there_as_soon_as_it_was_put(tmp_path: Path) -> None:
    path = tmp_path / "a.car"
    with ReadWriteBlockstore.open(path, [HELLO]) as writer, FollowedBlockstore.at(path) as reader:
        assert reader.roots == (HELLO,) and list(reader.cids()) == []
        for place, (cid, data) in enumerate(STORED):
            assert not reader.has(cid)
            with pytest.raises(BlockNotFound):
                reader.get(cid)
            writer.put(cid, data)
            assert (reader.get(cid), reader.size(cid), reader.has(cid)) == (data, len(data), True)
            assert reader.read(cid, 1, 3) == data[1:3]
            assert [found for found, _ in reader.cids()] == [one for one, _ in STORED[: place + 1]]
        assert all(reader.get(cid) == data for cid, data in STORED)
        assert all(reader.is_verified(cid) for cid, _ in STORED)


def test_it_ends_where_the_payload_does_when_the_car_is_made_final(tmp_path: Path) -> None:
    path = tmp_path / "a.car"
    with ReadWriteBlockstore.open(path, [HELLO]) as writer, FollowedBlockstore.at(path) as reader:
        for cid, data in STORED:
            writer.put(cid, data)
        writer.finalise()
        assert [cid for cid, _ in reader.cids()] == [cid for cid, _ in STORED]
        assert all(reader.get(cid) == data for cid, data in STORED)
    with FollowedBlockstore.at(path) as late:
        assert [cid for cid, _ in late.cids()] == [cid for cid, _ in STORED]


@given(st.data())
def test_of_every_beginning_of_the_file_the_whole_sections_are_there(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, whole = Path(folder) / "a.car", Path(folder) / "whole.car"
        with ReadWriteBlockstore.open(whole, [HELLO]) as writer:
            for cid, block in STORED:
                writer.put(cid, block)
            ends = whole.read_bytes()
        cut = data.draw(st.integers(0, len(ends)))
        path.write_bytes(ends[:cut])
        try:
            reader = FollowedBlockstore.at(path)
        except CarError:
            return  # not even its head
        with reader:
            for _cid, location in reader.cids():
                assert location.data_offset + location.size <= cut
            path.write_bytes(ends)  # the same inode
            assert [cid for cid, _ in reader.cids()] == [cid for cid, _ in STORED]
            assert all(reader.get(cid) == block for cid, block in STORED)


def test_what_is_there_and_wrong_is_not_given(tmp_path: Path) -> None:
    path = tmp_path / "a.car"
    cid, data = STORED[0]
    with ReadWriteBlockstore.open(path, [HELLO]) as writer, FollowedBlockstore.at(path) as reader:
        writer.put(cid, b"x" * len(data), verified=True)
        with pytest.raises(HashMismatch):
            reader.get(cid)


def test_two_stores_share_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "a.car"
    with ReadWriteBlockstore.open(path, [HELLO]) as writer, FollowedBlockstore.at(path) as one:
        other = FollowedBlockstore(one._following)
        for cid, data in many_blocks(200):
            writer.put(cid, data)
            assert one.get(cid) == data == other.get(cid)
        assert len(one.index) == len(other.index) == 200


def test_what_is_no_car_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"nonsense" * 20):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(CarError):
            FollowedBlockstore.at(tmp_path / "a")
