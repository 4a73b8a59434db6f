"""Verdicts over whole CARs, ours and those of other implementations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from carlib.errors import CarError, HashMismatch, LimitExceeded, Malformed, Truncated
from carlib.inspect import inspect, report
from carlib.verify import MAX_PROBLEMS, verify
from carlib.writer import creating
from tests.carlib.cars import BLOCKS, HELLO, car_v1, many_blocks, section, write_car
from tests.fixtures import FOLDER, fixture, fixtures

INVALID: dict[str, tuple[type[CarError], int | None]] = {
    "badheaderlength.car": (LimitExceeded, 0),
    "badsectionlength.car": (LimitExceeded, 18),
    "sample-corrupt-pragma.car": (Truncated, 0),
    "sample-rootless-v42.car": (Malformed, 1),
    "sample-v1-tailing-corrupt-section.car": (Truncated, 479518),
    "sample-v2-corrupt-data-and-index.car": (Malformed, 27),
    "rw-unfinalised.car": (Malformed, 11),
    "rw-unfinalised-empty.car": (Malformed, 11),
    "rw-unfinalised-padded.car": (Malformed, 11),
    "refcar-identity-keys.car": (HashMismatch, 112),
    "refcar-sha256-keys.car": (HashMismatch, 112),
}
"""Sample CARs that are damaged, or whose blocks do not hash on purpose: the first problem and its offset."""


@pytest.mark.parametrize("path", fixtures("**/*.car"), ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_sample_car_gives_its_verdict(path: Path) -> None:
    result = verify(path)
    if path.name in INVALID:
        problem = result.problems[0]
        assert (type(problem), problem.offset) == INVALID[path.name]
        assert problem.source == str(path)
    else:
        assert (result.problems, result.good) == ([], True)


def _expectations() -> list[dict[str, object]]:
    found = FOLDER / "generated-with-go-car" / "expected.json"
    entries = json.loads(found.read_text()) if found.exists() else []
    return [entry for entry in entries if entry["File"].endswith(".car")]


@pytest.mark.parametrize("expected", _expectations(), ids=lambda one: one["File"])
def test_inspect_agrees_with_go_cars(expected: dict[str, dict[str, object]]) -> None:
    path = fixture(f"generated-with-go-car/{expected['File']}")
    if "Err" in expected:
        with pytest.raises(CarError):
            inspect(path)
        return
    stats, theirs = inspect(path, full=True), expected["Stats"]
    text = report(stats)
    assert (stats.container.version, [str(root) for root in stats.container.roots]) == (
        theirs["version"],
        theirs["roots"],
    )
    assert (stats.block_count, stats.roots_present) == (theirs["blockCount"], theirs["rootsPresent"])
    for spread, key in ((stats.block_lengths, "blockLen"), (stats.cid_lengths, "cidLen")):
        assert [spread.least, spread.mean, spread.greatest] == theirs[key]
    for counts in (theirs["codecs"], theirs["multihashes"]):
        assert isinstance(counts, dict)
        assert all(f"\t{name}: {count}\n" in text + "\n" for name, count in counts.items())
    if stats.container.version == 2:
        container = stats.container
        assert (container.data_offset, container.data_size, container.index_offset, container.fully_indexed) == (
            theirs["dataOffset"], theirs["dataSize"], theirs["indexOffset"], theirs["fullyIndexed"]
        )  # fmt: skip
        assert f"Index type: {theirs['indexCodec']}" in text


def test_padded_samples_say_how_much_padding(tmp_path: Path) -> None:
    path = write_car(tmp_path / "a.car")
    with path.open("ab") as file:
        file.write(bytes(3_000_000))
    result = verify(path)
    assert (result.good, result.blocks, result.padding) == (True, len(BLOCKS), 3_000_000)


def test_data_behind_padding_is_a_problem(tmp_path: Path) -> None:
    path = write_car(tmp_path / "a.car")
    end = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(2_000_000) + b"hidden")
    (problem,) = verify(path).problems
    assert (problem.offset, "not zero" in str(problem)) == (end + 2_000_000, True)


def test_each_flipped_block_is_named(tmp_path: Path) -> None:
    blocks = many_blocks(300, 5000)
    data = bytearray(car_v1(blocks))
    bad = [3, 77, 299]
    for number in bad:
        data[data.index(blocks[number][1]) + 9] ^= 1
    (tmp_path / "a.car").write_bytes(data)
    result = verify(tmp_path / "a.car")
    assert [problem.cid for problem in result.problems if isinstance(problem, HashMismatch)] == [
        blocks[number][0] for number in bad
    ]
    assert (result.problem_count, result.blocks, result.good) == (3, 300, False)
    with pytest.raises(HashMismatch):
        inspect(tmp_path / "a.car", full=True)
    assert inspect(tmp_path / "a.car").block_count == 300


def test_problems_are_counted_past_those_that_are_kept(tmp_path: Path) -> None:
    blocks = [(cid, data + b"!") for cid, data in many_blocks(MAX_PROBLEMS + 50)]
    result = verify(write_car(tmp_path / "a.car", blocks))
    assert (len(result.problems), result.problem_count) == (MAX_PROBLEMS, MAX_PROBLEMS + 50)


def test_absent_roots_are_named_and_allowed(tmp_path: Path) -> None:
    result = verify(write_car(tmp_path / "a.car", many_blocks(3), roots=(HELLO,)))
    assert (result.good, result.missing_roots) == (True, [HELLO])
    assert not inspect(tmp_path / "a.car").roots_present


def test_an_index_is_held_against_the_data_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "a.car"
    blocks = many_blocks(10)
    with creating(path, roots=[HELLO]) as writer:
        for cid, data in blocks:
            writer.put(cid, data)
        writer.finish()
    content = bytearray(path.read_bytes())
    content[-40:-38] = b"\xff\xff"  # the digest of the last entry, still sorted
    path.write_bytes(content)
    result = verify(path)
    assert (result.index_state, result.problem_count) == ("wrong", 2)
    assert sorted(str(problem).split(": ")[1][:10] for problem in result.problems) == [
        "index lack",
        "index says",
    ]


def test_an_unreadable_index_is_said_and_no_fault(tmp_path: Path) -> None:
    result = verify(fixture("ipld+ipld/specs/transport/car/fixture/carv2-basic/carv2-basic.car"))
    assert (result.index_state, result.good) == ("unusable", True)


def test_a_detached_index_is_checked_too(tmp_path: Path) -> None:
    folder = "ipld+go-car/v2/testdata/"
    index = fixture(folder + "sample-multihash-index-sorted.carindex")
    assert verify(fixture(folder + "sample-v1.car"), index=index).index_state == "good"
    other = write_car(tmp_path / "other.car", many_blocks(3))
    assert verify(other, index=index).index_state == "wrong"


def test_the_basic_fixture_has_its_blocks_where_its_json_says() -> None:
    folder = "ipld+ipld/specs/transport/car/fixture/carv1-basic/"
    expected = json.loads(fixture(folder + "carv1-basic.json").read_text())
    from carlib.blockstore import ReadOnlyBlockstore

    with ReadOnlyBlockstore.open(fixture(folder + "carv1-basic.car")) as store:
        found = [
            (str(cid), at.section_offset, at.data_offset, at.data_offset - at.section_offset + at.size)
            for cid, at in store.cids()
        ]
    assert found == [
        (block["cid"]["/"], block["offset"], block["blockOffset"], block["length"])
        for block in expected["blocks"]
    ]


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = write_car(tmp_path / "a.car", many_blocks(20, 1_000_000))
    verify(path, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] == sum(len(section(*block)) for block in many_blocks(20, 1_000_000))
