"""Writing CARs: whole or not there, byte for byte as go-car writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.errors import LimitExceeded
from carlib.limits import MAX_BLOCK_BYTES
from carlib.options import WriteOptions
from carlib.source import FileSource
from carlib.verify import verify
from carlib.writer import creating
from tests.carlib.cars import BLOCKS, HELLO, car_v1
from tests.fixtures import fixture


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_put_is_what_is_read(tmp_path: Path, version: int) -> None:
    path = tmp_path / "a.car"
    with creating(path, WriteOptions(version=version)) as writer:
        assert [writer.put(cid, data) for cid, data in BLOCKS] == [not cid.is_identity for cid, _ in BLOCKS]
        assert not writer.put(HELLO, b"hello")
        writer.finish([HELLO])
    assert (writer.blocks, writer.duplicates) == (len(BLOCKS) - 1, 1)
    report = verify(path)
    assert (report.good, report.roots, report.version, report.missing_roots) == (True, (HELLO,), version, [])
    assert report.index_state == ("good" if version == 2 else "none")
    with ReadOnlyBlockstore.open(path) as store:
        assert [store.get(cid) for cid, _ in BLOCKS] == [data for _, data in BLOCKS]


def test_a_v1_is_exactly_its_sections(tmp_path: Path) -> None:
    with creating(tmp_path / "a.car", WriteOptions(version=1), roots=[HELLO]) as writer:
        for cid, data in BLOCKS[:-1]:
            writer.put(cid, data)
        writer.finish()
    assert (tmp_path / "a.car").read_bytes() == car_v1(BLOCKS[:-1])


@pytest.mark.parametrize(
    "name", ["rw-default.car", "rw-dups.car", "rw-noroots.car", "rw-empty.car", "rw-v1.car"]
)
def test_the_same_puts_give_go_cars_bytes(tmp_path: Path, name: str) -> None:
    theirs = fixture(f"generated-with-go-car/{name}")
    with ReadOnlyBlockstore.open(theirs) as store:
        container = store.container
        duplicates = "dups" in name
        options = WriteOptions(version=container.version, allow_duplicates=duplicates)
        with creating(tmp_path / name, options, roots=container.roots) as writer:
            with FileSource(theirs) as source:
                for cid, at in store.cids():
                    writer.put(cid, source.pread(at.data_offset, at.size))
            writer.finish()
    ours, expected = (tmp_path / name).read_bytes(), theirs.read_bytes()
    if duplicates:  # the order among equal digests is open
        assert ours[: container.index_offset] == expected[: container.index_offset]
        assert len(ours) == len(expected)
    else:
        assert ours == expected


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="midway"), creating(tmp_path / "a.car") as writer:
        writer.put(HELLO, b"hello")
        raise RuntimeError("midway")
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a.car").write_bytes(b"old")
    with pytest.raises(ValueError, match="were kept for it"), creating(tmp_path / "a.car") as writer:
        writer.put(HELLO, b"hello")
        writer.finish([HELLO, HELLO])
    assert (tmp_path / "a.car").read_bytes() == b"old"


def test_what_no_reader_takes_is_refused(tmp_path: Path) -> None:
    big = bytes(MAX_BLOCK_BYTES + 1)
    with pytest.raises(LimitExceeded, match="block length"), creating(tmp_path / "a.car") as writer:
        writer.put(Cid.of(big), big)
    with pytest.raises(LimitExceeded, match="CID length"), creating(tmp_path / "a.car") as writer:
        writer.put(Cid(b"\x01\x55\x13\x80\x20" + bytes(4096)), b"")


def test_the_largest_block_that_can_be_written_can_be_read(tmp_path: Path) -> None:
    data = bytes(MAX_BLOCK_BYTES)
    cid = Cid.of(data)
    with creating(tmp_path / "a.car") as writer:
        writer.put(cid, data)
        writer.finish([cid])
    assert verify(tmp_path / "a.car").good
