"""Where pieces lie in an unsealed sector, and what is read there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib.errors import CarError, Malformed, Truncated
from carlib.piece.commitment import commit, join
from carlib.piece.sector import Placement, open_piece, place
from carlib.piece.sizes import unpadded_size
from carlib.source import MemorySource
from tests.carlib.piece import reference

PAYLOADS = [reference.pattern(size, size) for size in (100, 1000, 127, 500)]
PIECES = [commit(payload) for payload in PAYLOADS]
PLACES = place([piece.padded_size for piece in PIECES], 4096)


def sector() -> bytes:
    """An unsealed sector of 4 KiB with the payloads in it."""
    data = bytearray(4096)
    for payload, at in zip(PAYLOADS, PLACES, strict=True):
        padded = reference.padded(payload)
        data[at.offset : at.offset + len(padded)] = padded
    return bytes(data)


def test_each_piece_begins_at_a_multiple_of_its_size() -> None:
    assert list(PLACES) == [
        Placement(0, 128),
        Placement(1024, 1024),
        Placement(2048, 128),
        Placement(2560, 512),
    ]
    assert [(at.unpadded_offset, at.unpadded_size) for at in PLACES[1:3]] == [(1016, 1016), (2032, 127)]


def test_the_sector_commits_to_what_is_joined() -> None:
    assert reference.tree(sector()) == join(PIECES, 4096).root


@given(st.integers(0, 3), st.integers(0, 1200), st.integers(0, 1200))
def test_any_range_of_a_piece_is_read_through_the_padding(number: int, offset: int, length: int) -> None:
    payload = PAYLOADS[number]
    with_size = open_piece(MemorySource(sector()), PLACES[number], len(payload))
    assert with_size.peek(offset, length) == payload[offset : offset + length]
    whole = open_piece(MemorySource(sector()), PLACES[number])
    full = payload.ljust(PLACES[number].unpadded_size, b"\0")
    assert whole.peek(offset, length) == full[offset : offset + length]


def test_pieces_that_do_not_fit_are_refused() -> None:
    assert place([], 128) == ()
    with pytest.raises(Malformed, match="need 2176"):
        place([128, 1024, 128], 2048)
    with pytest.raises(Malformed):
        place([100])


def test_a_piece_lies_within_its_sector_and_a_payload_within_its_piece() -> None:
    source = MemorySource(sector(), "s-t01000-1")
    with pytest.raises(Malformed, match="s-t01000-1"):
        open_piece(source, Placement(4096, 128))
    with pytest.raises(Malformed):
        open_piece(source, PLACES[0], 128)
    with pytest.raises(Malformed):
        open_piece(source, PLACES[0], -1)


def test_a_sector_that_shrinks_is_truncated() -> None:
    class Shrinking(MemorySource):
        size = 4096

    with pytest.raises(Truncated):
        open_piece(Shrinking(sector()[:1100]), PLACES[1]).pread(0, 1000)


@given(st.integers(-256, 4096), st.integers(-256, 4096))
def test_a_placement_is_one_or_an_error(offset: int, size: int) -> None:
    try:
        at = Placement.parse(offset, size)
    except CarError:
        return
    assert at.offset % at.size == 0
    assert at.unpadded_size == unpadded_size(size)
