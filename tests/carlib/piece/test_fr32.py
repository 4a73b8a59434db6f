"""fr32 of streams and of any range, both ways."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib.errors import Truncated
from carlib.piece.fr32 import STEP_GROUPS, Padder, Unpadder, padded_view, unpadded_view
from carlib.source import ByteSource, MemorySource
from tests.carlib.piece import reference

DATA = reference.pattern(127 * 11 + 50)
PIECE = reference.padded(DATA).ljust(16 * 128, b"\0")


def parts(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


@given(st.lists(st.integers(0, len(DATA)), max_size=8))
def test_a_stream_pads_the_same_however_it_is_cut(cuts: list[int]) -> None:
    padder = Padder()
    assert b"".join([*map(padder.feed, parts(DATA, cuts)), padder.finish()]) == reference.padded(DATA)
    assert padder.finish() == b""


@given(st.lists(st.integers(0, len(PIECE)), max_size=8))
def test_a_stream_unpads_the_same_however_it_is_cut(cuts: list[int]) -> None:
    unpadder = Unpadder()
    assert b"".join(map(unpadder.feed, parts(PIECE, cuts))) == DATA.ljust(16 * 127, b"\0")
    unpadder.finish()


def test_padded_data_that_ends_inside_a_group_is_truncated() -> None:
    unpadder = Unpadder()
    unpadder.feed(PIECE[:-1])
    with pytest.raises(Truncated):
        unpadder.finish()


@given(st.integers(0, 20 * 128), st.integers(0, 20 * 128))
def test_any_range_of_the_padded_piece(offset: int, length: int) -> None:
    assert padded_view(MemorySource(DATA)).peek(offset, length) == PIECE[offset : offset + length]


@given(st.integers(0, 20 * 127), st.integers(0, 20 * 127), st.integers(0, 3))
def test_any_range_of_the_payload(offset: int, length: int, base: int) -> None:
    source = MemorySource(bytes(128 * base) + PIECE)
    view = unpadded_view(source, 128 * base, len(DATA))
    assert view.peek(offset, length) == DATA[offset : offset + length]


@given(st.integers(0, len(DATA)), st.integers(0, len(DATA)))
def test_unpadding_the_padding_of_any_range_gives_it_back(offset: int, length: int) -> None:
    there_and_back = unpadded_view(padded_view(MemorySource(DATA)), 0, len(DATA))
    assert there_and_back.peek(offset, length) == DATA[offset : offset + length]


def test_long_ranges_are_read_in_steps() -> None:
    data = reference.pattern(127 * (2 * STEP_GROUPS + 3))
    view = unpadded_view(padded_view(MemorySource(data)), 0, len(data))
    assert view.pread(5, len(data) - 9) == data[5:-4]


def test_a_view_is_a_source() -> None:
    source = MemorySource(DATA, "payload")
    view: ByteSource = padded_view(source)
    assert (view.name, view.size, view.stamp()) == ("payload", len(PIECE), source.stamp())
    assert view.pread(2, 3) == PIECE[2:5]
    view.close()


def test_reading_past_the_end_is_truncated() -> None:
    view = padded_view(MemorySource(DATA))
    assert view.peek(len(PIECE), 1) == view.peek(len(PIECE) + 1, 1) == view.peek(0, 0) == b""
    with pytest.raises(Truncated, match="payload: offset 2040: 9 bytes are due, 8 are there"):
        padded_view(MemorySource(DATA, "payload")).pread(2040, 9)
    with pytest.raises(Truncated):
        unpadded_view(MemorySource(PIECE[:-128]), 0, 16 * 127).peek(15 * 127, 1)


def test_padded_data_begins_at_a_group() -> None:
    with pytest.raises(ValueError, match="multiple of 128"):
        unpadded_view(MemorySource(PIECE), 64, 10)
