"""Each depth of verification finds what is its own to find, and reads no more than it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from carlib import dagcbor
from carlib.cid import DAG_CBOR, Cid
from carlib.frame import wrap
from carlib.verify import Depth, verify
from tests.carlib.cars import many_blocks, write_car


@pytest.fixture
def car(tmp_path: Path) -> Path:
    """An indexed CARv2 of a node, its two leaves, and a leaf that nothing links to."""
    leaves = many_blocks(3)
    node = dagcbor.encode([cid for cid, _ in leaves[:2]])
    root = Cid.of(node, DAG_CBOR)
    wrap(write_car(tmp_path / "v1.car", [(root, node), *leaves], (root,)), tmp_path / "a.car")
    return tmp_path / "a.car"


def change(path: Path, needle: bytes, offset: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[data.rindex(needle) + offset] ^= 1
    path.write_bytes(data)


def verdicts(path: Path) -> list[bool]:
    return [verify(path, depth=depth).good for depth in Depth]


def test_a_good_car_is_good_at_every_depth(car: Path) -> None:
    reports = [verify(car, depth=depth) for depth in Depth]
    assert [report.good for report in reports] == [True] * 4
    assert [report.index_state for report in reports] == ["readable", "good", "good", "good"]
    assert {(report.blocks, report.complete) for report in reports} == {(4, True)}
    assert len({report.data_bytes for report in reports}) == 1


def test_a_flipped_bit_in_a_block_is_for_blocks_to_find(car: Path) -> None:
    change(car, many_blocks(3)[1][1])
    assert verdicts(car) == [True, True, False, False]


def test_a_wrong_index_is_for_index_to_find(car: Path) -> None:
    change(car, many_blocks(3)[1][0].digest, 32)
    assert verdicts(car) == [True, False, False, False]


def test_a_torn_section_is_found_by_all(tmp_path: Path) -> None:
    path = write_car(tmp_path / "x.car", many_blocks(2))
    path.write_bytes(path.read_bytes()[:-1])
    assert verdicts(path) == [False] * 4


def test_links_are_for_full_to_follow(car: Path) -> None:
    assert verify(car).links is None
    links = verify(car, depth=Depth.FULL).links
    assert links is not None
    assert (links.reachable, links.unreachable, links.dangling) == (3, 1, 0)
    assert links.named_unreachable == [many_blocks(3)[2][0]]


def test_a_dangling_link_is_not_corrupt_but_incomplete(tmp_path: Path) -> None:
    node = dagcbor.encode([Cid.of(b"absent")])
    root = Cid.of(node, DAG_CBOR)
    report = verify(write_car(tmp_path / "x.car", [(root, node)], (root,)), depth=Depth.FULL)
    assert (report.good, report.complete) == (True, False)


@pytest.mark.parametrize(("offset", "words"), [(32, "of the data"), (0, "where")])
def test_a_whole_sample_finds_a_wrong_entry(offset: int, words: str, car: Path) -> None:
    assert verify(car, depth=Depth.INDEX, sample=100).good
    change(car, many_blocks(3)[1][0].digest, offset)
    report = verify(car, depth=Depth.INDEX, sample=100)
    assert (report.index_sampled, report.index_state, report.good) == (4, "wrong", False)
    assert words in str(report.problems[0])


def test_a_sample_hashes_what_it_is_led_to(car: Path) -> None:
    for _, data in many_blocks(3):
        change(car, data)
    assert verify(car, depth=Depth.INDEX).good
    report = verify(car, depth=Depth.INDEX, sample=4)
    assert (report.problem_count, report.good) == (3, False)
