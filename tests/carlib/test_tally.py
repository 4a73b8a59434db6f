"""Tallies: they tell equal entries from others, and no verdict depends on whether they were asked."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carlib import index_check, indexing, tally, usual
from carlib.checked import CheckedBlocks
from carlib.cid import RAW, Cid
from carlib.container import read_container
from carlib.frame import wrap
from carlib.index import INDEX_SORTED, MULTIHASH_INDEX_SORTED
from carlib.options import WriteOptions
from carlib.source import FileSource
from carlib.verify import Depth, Report, verify
from tests.carlib.cars import BLOCKS, many_blocks, write_car

KEY = bytes(range(16))
CODECS = [INDEX_SORTED, MULTIHASH_INDEX_SORTED]


@pytest.mark.parametrize(
    ("size", "expected"),
    [(8, 0x93F5F5799A932462), (15, 0xA129CA6149BE45E5), (16, 0x3F2ACC7F57C29BDB), (63, 0x958A324CEB064572)],
)
def test_rows_are_hashed_as_the_authors_of_siphash_do(size: int, expected: int) -> None:
    for tallied in (tally.portable_tally, tally.tally):
        assert tallied(bytes(range(size)), size, KEY) == (expected, True)


@given(st.integers(8, 80), st.integers(0, 9), st.randoms(use_true_random=False), st.booleans())
def test_c_and_python_sum_up_alike(width: int, count: int, chance: random.Random, ascending: bool) -> None:
    rows = [chance.randbytes(width) if chance.random() < 0.8 else bytes(width) for _ in range(count)]
    data = b"".join(sorted(rows) if ascending else rows)
    found = tally.portable_tally(data, width, KEY)
    assert tally.tally(data, width, KEY) == found
    assert found[1] or not ascending
    assert found[0] == sum(tally.tally(row, width, KEY)[0] for row in rows) % (1 << 64)


def test_more_rows_than_are_hashed_at_once_are_summed_up_alike() -> None:
    data = random.Random(1).randbytes(40 * 5000)
    assert tally.tally(data, 40, KEY) == tally.portable_tally(data, 40, KEY)


@pytest.mark.parametrize(("rows", "width", "key"), [(b"", 7, KEY), (bytes(9), 8, KEY), (b"", 8, b"short")])
def test_rows_that_are_not_whole_are_refused(rows: bytes, width: int, key: bytes) -> None:
    if tally.tally is not tally.portable_tally:
        with pytest.raises(ValueError, match="rows must be whole"):
            tally.tally(rows, width, key)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("identity", [False, True])
def test_a_good_index_is_not_looked_at_closer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: int, identity: bool
) -> None:
    car = write_car(tmp_path / "a.car", BLOCKS + many_blocks(3000))
    indexing.build(car, tmp_path / "index", codec=codec, identity=identity)
    monkeypatch.setattr(index_check, "problems", None)
    assert verify(car, index=tmp_path / "index").index_state == "good"


def both(path: Path, index: Path | None = None) -> tuple[object, ...]:
    """The verdict with a tally, which must be the one without."""

    def told(report: Report) -> tuple[object, ...]:
        return report.index_state, report.problem_count, list(map(str, report.problems))

    with pytest.MonkeyPatch.context() as patch:
        quick = told(verify(path, index=index))
        patch.setattr(tally.Beside, "agrees", lambda _: False)
        assert quick == told(verify(path, index=index))
    return quick


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(CODECS), st.booleans())
def test_no_verdict_depends_on_a_tally(draw: st.DataObject, codec: int, torn: bool) -> None:
    blocks = draw.draw(st.lists(st.sampled_from(BLOCKS + many_blocks(4)), max_size=12))
    with TemporaryDirectory() as folder:
        car = write_car(Path(folder, "a.car"), blocks)
        wrap(car, Path(folder, "b.car"), WriteOptions(index_codec=codec))
        data = bytearray(Path(folder, "b.car").read_bytes())
        with FileSource(Path(folder, "b.car")) as source:
            start = read_container(source).index_offset
        at = draw.draw(st.integers(1 if torn else start, len(data) - 1))
        data[at] ^= draw.draw(st.sampled_from([0, 0, 1, 0x80, 0xFF]))
        Path(folder, "b.car").write_bytes(data)
        both(Path(folder, "b.car"))


@pytest.mark.parametrize("codec", CODECS)
def test_entries_in_another_order_or_twice_or_exchanged_are_looked_at(tmp_path: Path, codec: int) -> None:
    car = write_car(tmp_path / "a.car", many_blocks(3))
    indexing.build(car, tmp_path / "index", codec=codec)
    data = (tmp_path / "index").read_bytes()
    head, rows = data[:-120], [data[-120:-80], data[-80:-40], data[-40:]]
    one, other, third = rows
    states = {
        "good": [one, other, third],
        "wrong, order": [other, one, third],
        "wrong, twice": [one, one, third],
        "wrong, exchanged": [one[:32] + other[32:], other[:32] + one[32:], third],
    }
    for state, changed in states.items():
        (tmp_path / "index").write_bytes(head + b"".join(changed))
        assert both(car, tmp_path / "index")[0] == state.partition(",")[0]


def test_data_of_very_many_kinds_are_compared_the_other_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "MAX_KINDS", 2)
    car = write_car(tmp_path / "a.car")
    indexing.build(car, tmp_path / "index")
    with tally.beside(tmp_path / "index", 0, 0) as running, FileSource(car) as source:
        assert list(CheckedBlocks(source, read_container(source), tally=running.truth).problems(set())) == []
        assert (running.truth.is_full, running.agrees()) == (True, False)
    assert verify(car, index=tmp_path / "index").index_state == "good"


def test_sections_of_every_kind_are_tallied_as_an_index_lists_them(tmp_path: Path) -> None:
    blocks = [*BLOCKS, *many_blocks(5), (Cid.of(b"tail", RAW), b"tail")]
    car = write_car(tmp_path / "a.car", blocks)
    assert both(car)[0] == "none"
    for codec in CODECS:
        indexing.build(car, tmp_path / str(codec), codec=codec)
        assert both(car, tmp_path / str(codec)) == ("good", 0, [])


def test_whoever_does_not_wait_for_the_index_stops_its_thread(tmp_path: Path) -> None:
    car = write_car(tmp_path / "a.car", many_blocks(10))
    indexing.build(car, tmp_path / "index")
    with tally.beside(tmp_path / "index", 0, 0) as running:
        running.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("carfs-index")]


def test_a_depth_that_hashes_nothing_compares_too(tmp_path: Path) -> None:
    car = write_car(tmp_path / "a.car", many_blocks(10))
    indexing.build(car, tmp_path / "index")
    assert verify(car, index=tmp_path / "index", depth=Depth.INDEX).index_state == "good"
    assert usual.ENTRY_BYTES == 40
