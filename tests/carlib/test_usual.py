"""The kernel for sections and its Python twin: the same answers, for whole, damaged and hostile sections alike."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from carlib import usual, varint
from carlib.checked import CheckedBlock, CheckedBlocks
from carlib.cid import DAG_PB, RAW, Cid
from carlib.container import read_container
from carlib.errors import CarError, HashMismatch
from carlib.source import FileSource, MemorySource
from tests.carlib.cars import BLOCKS, HELLO, V0, car_v1, many_blocks, section

_sections = pytest.importorskip("carlib._sections", reason="carlib._sections was not built")
VARIANTS = range(len(usual.VARIANTS))

RIGHT = st.builds(
    lambda data, codec: section(Cid.of(data, codec), data),
    st.one_of(st.binary(max_size=300), st.integers(0, 20_000).map(bytes)),
    st.sampled_from([RAW, DAG_PB, 0x71]),
)
OTHER = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(
        [
            section(V0, b"Hello World"),
            section(Cid.identity(b"inside"), b"inside"),
            section(Cid.of(b"x", RAW, 0xB220), b"x"),
            section(HELLO, b"wrong"),
            section(Cid.of(b"", 0x0129), b""),
            b"\x00",
            b"\xa4\x80\x00" + HELLO.raw,  # a length that is not in its shortest form
            b"\xff" * 9,
            varint.encode(1 << 60) + HELLO.raw,
            varint.encode(36) + HELLO.raw,
            varint.encode(35) + HELLO.raw[:35],
        ]
    ),
)
BUFFERS = st.lists(st.one_of(RIGHT, RIGHT, RIGHT, OTHER), max_size=40).map(b"".join)


@given(BUFFERS, st.integers(0, 50), st.integers(0, 60), st.booleans())
@example(b"", 0, 0, False)
@example(section(HELLO, b"hello"), 0, 1, True)
def test_every_variant_says_what_python_says(data: bytes, start: int, most: int, absent: bool) -> None:
    start = min(start, len(data))
    stop_at = HELLO.digest * 2 if absent else b""
    expected = usual.portable_right(data, start, most, stop_at)
    assert [_sections.right(data, start, most, stop_at, variant) for variant in VARIANTS] == [expected] * len(
        VARIANTS
    )
    for limit in (len(data), len(data) // 2):
        assert _sections.hop(data, start, limit) == usual.portable_hop(data, start, limit)
    count, rows = _sections.entries(data, start, most, 1 << 40)
    assert (count, rows[: 40 * count]) == usual.portable_entries(data, start, most, 1 << 40)


@pytest.mark.parametrize("variant", VARIANTS)
def test_blocks_of_every_length_around_the_steps_of_the_hash(variant: int) -> None:
    lengths = [*range(260), *range(1_000, 1_100), 4_095, 65_536, 1 << 20]
    random.Random(1).shuffle(lengths)
    bodies = [random.Random(length).randbytes(length) for length in lengths]
    data = b"".join(section(Cid.of(body), body) for body in bodies)
    assert _sections.right(data, 0, len(bodies), b"", variant) == (len(bodies), sum(lengths))
    assert _sections.right(data, 0, 7, b"", variant) == (7, sum(lengths[:7]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_first_wrong_block_ends_it_wherever_it_is(variant: int) -> None:
    bodies = [bytes([number]) * (number * 37 % 500) for number in range(70)]
    good = [section(Cid.of(body), body) for body in bodies]
    for wrong in range(70):
        data = bytearray(b"".join(good))
        at = (
            sum(map(len, good[:wrong])) + len(good[wrong]) - len(bodies[wrong]) - 1
        )  # last byte of its digest
        data[at] ^= 1
        expected = (wrong, sum(map(len, bodies[:wrong])))
        assert _sections.right(bytes(data), 0, 70, b"", variant) == expected


def test_arguments_that_would_leave_the_buffer_are_refused() -> None:
    for arguments in (
        (b"abc", 4, 1),
        (b"abc", -1, 1),
        (b"abc", 0, -1),
        (b"abc", 0, 1, b"short"),
        (b"", 0, 1, b"", 99),
    ):
        with pytest.raises(ValueError):
            _sections.right(*arguments)
    for start, most in ((-1, 1), (4, 1), (0, -1)):
        with pytest.raises(ValueError):
            _sections.entries(b"abc", start, most, 0)
    for start, limit in ((-1, 3), (0, 4)):
        with pytest.raises(ValueError):
            _sections.hop(b"abc", start, limit)


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("portable", [False, True])
def test_checked_blocks_find_the_same_problems_either_way(
    portable: bool, in_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over several windows, with roots to be met, wrong blocks and one whose CID is broken; position and counts too."""
    monkeypatch.setattr("carlib.section.THROUGH_WINDOW", 300_000)
    if portable:
        monkeypatch.setattr(usual, "right", usual.portable_right)
        monkeypatch.setattr(usual, "hop", usual.portable_hop)
    blocks = many_blocks(20_000, 150)
    parts = [section(*block) for block in blocks]
    for number in (3, 4, 5_000, 15_000):
        parts[number] = parts[number][:-1] + b"?"
    root, late = blocks[10_000][0], blocks[19_999][0]
    for broken in (None, 18_000):
        if broken is not None:
            parts[broken] = parts[broken][:2] + b"\x07" + parts[broken][3:]
        data = car_v1([], roots=(root, late)) + b"".join(parts)
        (tmp_path / "a.car").write_bytes(data)
        source = FileSource(tmp_path / "a.car") if in_file else MemorySource(data)
        checked = CheckedBlocks(source, read_container(source))
        absent = {root.multihash, late.multihash, Cid.of(b"never").multihash}
        found: list[CarError] = []
        told: list[int] = []
        if broken is None:
            found = list(checked.problems(absent, told.append))
            assert (checked.blocks, checked.position) == (20_000, len(data))
            assert absent == {Cid.of(b"never").multihash}
        else:
            with pytest.raises(CarError) as caught:
                found.extend(checked.problems(absent, told.append))
            at = len(data) - sum(map(len, parts[broken:]))
            assert (checked.blocks, checked.position, caught.value.offset) == (broken, at, at + 2)
            assert absent == {late.multihash, Cid.of(b"never").multihash}
        assert told == sorted(told)
        source.close()
        if broken is None:
            assert [(type(each), each.cid) for each in found if isinstance(each, HashMismatch)] == [
                (HashMismatch, blocks[number][0]) for number in (3, 4, 5_000, 15_000)
            ]


def test_a_car_of_very_many_roots_is_checked_like_any_other() -> None:
    blocks = [*BLOCKS, *many_blocks(500)]
    data = car_v1(blocks, roots=tuple(cid for cid, _ in blocks))
    source = MemorySource(data)
    checked = CheckedBlocks(source, read_container(source))
    absent = {cid.multihash for cid, _ in blocks}
    assert (list(checked.problems(absent)), absent, checked.blocks) == ([], set(), len(blocks))
    assert hashlib.sha256(blocks[-1][1]).digest() == blocks[-1][0].digest


@given(st.lists(st.one_of(RIGHT, RIGHT, OTHER), max_size=20).map(b"".join))
def test_an_iteration_over_checked_blocks_gives_what_each_section_says(data: bytes) -> None:
    car = car_v1([]) + data

    def found(checked: CheckedBlocks, one_by_one: bool) -> list[object]:
        blocks: list[object] = []
        try:
            for block in checked if not one_by_one else _one_by_one(checked):
                problem = block.problem and (type(block.problem), block.problem.offset, str(block.problem))
                blocks.append((block.cid, block.offset, block.data_offset, bytes(block.data), problem))
        except CarError as error:
            blocks.append((type(error), error.offset, str(error), checked.position))
        return blocks

    source = MemorySource(car)
    first, second = (CheckedBlocks(source, read_container(source)) for _ in range(2))
    assert found(first, False) == found(second, True)


def _one_by_one(checked: CheckedBlocks) -> Iterator[CheckedBlock]:
    for buffer, base, starts, _ in checked._sections.windows(through=True):
        for start in starts:
            yield checked._block(buffer, start, base)
