"""The index of an aggregate: found, checked, and never an error for what is not an entry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib.errors import CarError, LimitExceeded, Malformed
from carlib.piece import fr32
from carlib.piece.aggregate import (
    Aggregate,
    Segment,
    build,
    encode,
    index_placement,
    max_entries,
    parse,
    read,
)
from carlib.piece.cids import Piece
from carlib.piece.commitment import commit
from carlib.piece.sector import Placement, place
from carlib.source import MemorySource
from tests.carlib.piece import reference

MIB = 1 << 20
PAYLOADS = [reference.pattern(size, size) for size in (127, 5000, 300)]
PIECES = [commit(payload) for payload in PAYLOADS]

# go-data-segment, sample_aggregate: two pieces, and the aggregate of 1 MiB that holds them and their index.
SAMPLE = [
    Piece.parse("baga6ea4seaqae5ysjdbsr4b5jhotaz5ooh62jrrdbxwygfpkkfjz44kvywycmgy", padded=MIB // 2),
    Piece.parse("baga6ea4seaqnrm2n2g4m23t6rs26obxjw2tjtr7tcho24gepj2naqhevytduyoa", padded=MIB // 4),
]
SAMPLE_AGGREGATE = "baga6ea4seaqnqkeoqevjjjfe46wo2lpfclcbmkyms4wkz5srou3vzmr3w3c72bq"


def aggregate_data(padded: int) -> bytes:
    """The unpadded bytes of an aggregate of PIECES."""
    data = bytearray(padded)
    for payload, at in zip(PAYLOADS, place([piece.padded_size for piece in PIECES]), strict=True):
        data[at.offset : at.end] = reference.padded(payload).ljust(at.size, b"\0")
    _, index = build(PIECES, padded)
    data[padded - len(index) :] = index
    return fr32.unpad(data)


def test_known_answer() -> None:
    piece, index = build(SAMPLE, MIB)
    assert str(piece.v1) == SAMPLE_AGGREGATE
    assert parse(index, MIB) == (
        [Segment(SAMPLE[0].root, 0, MIB // 2), Segment(SAMPLE[1].root, MIB // 2, MIB // 4)],
        0,
    )
    assert Segment.parse(index[:64]).checksum().hex() == "f09f73f5f2710ab83fd968425c73b91e"


@pytest.mark.parametrize(
    ("padded", "entries"), [(128, 4), (1 << 19, 4), (MIB, 8), (32 << 30, 1 << 18), (64 << 30, 1 << 19)]
)
def test_the_index_has_room_for(padded: int, entries: int) -> None:
    assert max_entries(padded) == entries


@pytest.mark.parametrize("padded", [32768, MIB])
def test_what_is_built_is_read_and_commits_to_its_bytes(padded: int) -> None:
    piece, _ = build(PIECES, padded)
    data = aggregate_data(padded)
    assert commit(data) == piece
    found = read(MemorySource(data), padded)
    assert [segment.piece.v1 for segment in found.segments] == [made.v1 for made in PIECES]
    assert found.rejected == 0
    for segment, payload in zip(found.segments, PAYLOADS, strict=True):
        start = segment.placement.unpadded_offset
        assert data[start : start + len(payload)] == payload


def test_data_that_ends_before_the_index_has_none() -> None:
    assert read(MemorySource(b"payload"), MIB) == Aggregate(MIB, (), 0)


@given(st.binary(min_size=64, max_size=64) | st.integers(0, 511).map(lambda bit: flipped(bit)))
def test_an_entry_with_any_other_bit_is_none(entry: bytes) -> None:
    with pytest.raises(CarError):
        Segment.parse(entry)


def flipped(bit: int) -> bytes:
    entry = bytearray(Segment(bytes(range(32)), 256, 128).encode())
    entry[bit // 8] ^= 1 << bit % 8
    return bytes(entry)


@pytest.mark.parametrize(
    "segment",
    [
        Segment(bytes(32), 0, 0),
        Segment(bytes(32), 0, 129),
        Segment(bytes(32), 64, 128),
        Segment(bytes(32), 128, 256),  # not where a tree of 256 may begin
        Segment(bytes(32), 256, 384),
        Segment(bytes(32), 512, 2**64 - 128),
    ],
)
def test_a_right_checksum_does_not_make_a_wrong_place_right(segment: Segment) -> None:
    with pytest.raises(Malformed):
        Segment.parse(segment.encode())


def test_segments_outside_the_aggregate_and_parts_of_entries_are_rejected() -> None:
    good, outside = Segment(b"\1" * 32, 128, 128), Segment(b"\2" * 32, 1024, 128)
    entries = encode([good, outside]) + bytes(64) + good.encode()[:40]
    assert parse(entries, 1024) == ([good], 2)
    assert parse(entries, 1152) == ([good, outside], 1)


def test_a_segment_may_leave_part_of_its_tree_out() -> None:
    segment = Segment.parse(Segment(b"\1" * 32, 512, 384).encode())
    assert segment.placement == Placement(512, 512)
    assert segment.piece.padded_size == 512
    assert segment.piece.payload_size == 381


@given(st.binary(max_size=2032), st.sampled_from([128, 256, 1024, 2048, 100, 0, 1 << 40]))
def test_garbage_raises_a_car_error_or_is_an_aggregate(data: bytes, padded: int) -> None:
    try:
        found = read(MemorySource(data), padded)
    except CarError:
        return
    assert len(found.segments) + found.rejected <= max_entries(padded)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(Malformed, match="no room"):
        index_placement(128)
    with pytest.raises(LimitExceeded):
        index_placement(128 << 30)
    with pytest.raises(Malformed, match="need"):
        build(PIECES, 8192)
    with pytest.raises(Malformed, match="9 pieces"):
        build([PIECES[0]] * 9, MIB)
    with pytest.raises(Malformed, match="more than"):
        read(MemorySource(bytes(509)), 512)
