"""Joining, filtering and cutting CARs: every block once, in order, checked on the way."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from carlib import selection
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.errors import HashMismatch, LimitExceeded
from carlib.options import WriteOptions
from carlib.verify import verify
from tests.carlib.cars import BLOCKS, HELLO, car_v1, many_blocks, write_car

KEEP_ALL = WriteOptions(allow_duplicates=True, identity=True)


def cids_in(path: Path) -> list[Cid]:
    with ReadOnlyBlockstore.open(path) as store:
        return [cid for cid, _ in store.cids()]


def test_joining_keeps_order_roots_and_each_block_once(tmp_path: Path) -> None:
    a = write_car(tmp_path / "a.car", many_blocks(5))
    b = write_car(tmp_path / "b.car", many_blocks(8), roots=(Cid.of(b"b"), HELLO))
    assert selection.concat([a, b], tmp_path / "out.car") == 8
    assert cids_in(tmp_path / "out.car") == [cid for cid, _ in many_blocks(8)]
    report = verify(tmp_path / "out.car")
    assert (report.good, report.roots, report.index_state) == (True, (HELLO, Cid.of(b"b")), "good")


def test_joining_may_keep_duplicates_and_identity_cids(tmp_path: Path) -> None:
    a = write_car(tmp_path / "a.car")
    selection.concat([a, a], tmp_path / "out.car", KEEP_ALL)
    assert cids_in(tmp_path / "out.car") == [cid for cid, _ in BLOCKS] * 2
    assert verify(tmp_path / "out.car").good


def test_a_v1_of_one_source_is_that_source(tmp_path: Path) -> None:
    path = write_car(tmp_path / "a.car")
    selection.concat(
        [path], tmp_path / "out.car", WriteOptions(version=1, allow_duplicates=True, identity=True)
    )
    assert (tmp_path / "out.car").read_bytes() == car_v1(BLOCKS)


@pytest.mark.parametrize("inverse", [False, True])
def test_filtering_takes_what_is_named_or_all_else(tmp_path: Path, inverse: bool) -> None:
    path, wanted = write_car(tmp_path / "a.car"), {cid for cid, _ in BLOCKS[::2]}
    written = selection.filtered(
        path, tmp_path / "out.car", {cid.raw for cid in wanted}, KEEP_ALL, inverse=inverse
    )
    expected = [cid for cid, _ in BLOCKS if (cid in wanted) != inverse]
    assert (cids_in(tmp_path / "out.car"), written) == (expected, len(expected))


def test_filtering_may_append_to_what_is_there(tmp_path: Path) -> None:
    out = write_car(tmp_path / "out.car", many_blocks(3), roots=(Cid.of(b"kept"),))
    path = write_car(tmp_path / "a.car", many_blocks(6))
    selection.filtered(path, out, {cid.raw for cid, _ in many_blocks(6)[2:5]}, append=True)
    assert cids_in(out) == [cid for cid, _ in many_blocks(5)]
    assert verify(out).roots == (Cid.of(b"kept"),)


@pytest.mark.parametrize("size", [500, 5_000, 1_000_000])
def test_parts_fit_and_make_the_whole_again(tmp_path: Path, size: int) -> None:
    blocks = many_blocks(100, 200)
    path = write_car(tmp_path / "a.car", blocks)
    parts = selection.split(
        path, size, lambda number: tmp_path / f"part-{number}.car", WriteOptions(version=1)
    )
    assert all(part.stat().st_size <= size and verify(part).good for part in parts)
    assert all(verify(part).roots == (HELLO,) for part in parts)
    selection.concat(parts, tmp_path / "again.car", WriteOptions(version=1))
    assert (tmp_path / "again.car").read_bytes() == path.read_bytes()
    assert len(parts) == {500: 100, 5_000: 5, 1_000_000: 1}[size]


def test_a_block_that_fits_in_no_part_is_said(tmp_path: Path) -> None:
    path = write_car(tmp_path / "a.car", many_blocks(3, 1000))
    with pytest.raises(LimitExceeded, match="a section is 1038"):
        selection.split(path, 1000, lambda number: tmp_path / f"part-{number}.car")
    assert [each.name for each in tmp_path.iterdir()] == ["a.car"]


def test_an_empty_car_is_one_part(tmp_path: Path) -> None:
    path = write_car(tmp_path / "a.car", [])
    (part,) = selection.split(path, 1000, lambda number: tmp_path / f"part-{number}.car")
    assert (verify(part).good, verify(part).blocks, verify(part).roots) == (True, 0, (HELLO,))


def test_a_corrupt_block_stops_the_work_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.car"
    path.write_bytes(car_v1(BLOCKS).replace(b"hello", b"jello", 2))
    for work in (
        lambda out: selection.concat([path], out),
        lambda out: selection.filtered(path, out, set(), inverse=True),
        lambda out: selection.split(path, 1000, lambda _: out),
    ):
        with pytest.raises(HashMismatch):
            work(tmp_path / "out.car")
    assert [each.name for each in tmp_path.iterdir()] == ["a.car"]


def test_a_v1_goes_to_a_stream_as_to_a_file_and_a_v2_does_not(tmp_path: Path) -> None:
    path, stream = write_car(tmp_path / "a.car", many_blocks(4)), io.BytesIO()
    assert selection.concat([path], stream, WriteOptions(version=1)) == 4
    assert stream.getvalue() == path.read_bytes()
    with pytest.raises(ValueError, match="stream"):
        selection.concat([path], io.BytesIO())
