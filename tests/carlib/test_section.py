"""Sections: hopping in files and cutting streams give the same, whatever the split and the damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib import varint
from carlib.cid import Cid
from carlib.errors import CarError, LimitExceeded, Malformed, Truncated
from carlib.header import V1Header
from carlib.limits import MAX_BLOCK_BYTES
from carlib.section import NEED_DATA, Block, Section, Sections, SectionScanner
from carlib.source import MemorySource
from tests.carlib.cars import BLOCKS, HELLO, car_v1, many_blocks, section

START = len(V1Header((HELLO,)).encode())
CAR = car_v1(BLOCKS)

blocks_lists = st.lists(
    st.tuples(st.sampled_from([cid for cid, _ in BLOCKS]), st.binary(max_size=300)) | st.sampled_from(BLOCKS)
)


def hop(car: bytes, *, zero_is_end: bool = False) -> tuple[list[Section], int, CarError | None]:
    """All sections, where the last whole one ends, and what ended it."""
    sections = Sections(MemorySource(car), START, len(car), zero_is_end=zero_is_end)
    found: list[Section] = []
    try:
        found.extend(sections)
    except CarError as error:
        return found, sections.position, error
    return found, sections.position, None


def stream(pieces: list[bytes], *, zero_is_end: bool = False) -> tuple[list[Block], CarError | None]:
    """All blocks of a stream fed in ``pieces``."""
    scanner = SectionScanner(zero_is_end=zero_is_end)
    found: list[Block] = []
    try:
        for piece in [*pieces, None]:
            if piece is None:
                scanner.feed_end()
            else:
                scanner.feed(piece)
            while (one := scanner.next()) is not NEED_DATA and one is not None:
                if isinstance(one, Block):
                    found.append(one)
    except CarError as error:
        return found, error
    return found, None


@given(blocks_lists)
def test_hopping_finds_every_section_where_it_lies(blocks: list[tuple[Cid, bytes]]) -> None:
    car = car_v1(blocks)
    found, position, error = hop(car)
    assert (position, error) == (len(car), None)
    assert [(cid, car[data : data + size]) for cid, _, data, size in found] == [(c.raw, d) for c, d in blocks]
    assert [offset for _, offset, _, _ in found] == [
        START + sum(len(section(*block)) for block in blocks[:number]) for number in range(len(blocks))
    ]


@given(blocks_lists, st.data())
def test_a_stream_gives_the_same_however_it_is_split(
    blocks: list[tuple[Cid, bytes]], data: st.DataObject
) -> None:
    car = car_v1(blocks)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(car)), max_size=8)))
    pieces = [car[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(car)], strict=True)]
    found, error = stream(pieces)
    assert error is None
    assert [(block.cid, block.data) for block in found] == [(cid.raw, body) for cid, body in blocks]
    assert [block.offset for block in found] == [offset for _, offset, _, _ in hop(car)[0]]


@pytest.mark.parametrize("size", [1, 50, 1000, 20_000, 100_000, 400_000])
def test_sections_of_every_size_are_found(size: int) -> None:
    blocks = many_blocks(1 + 3_000_000 // size if size > 50 else 60_000, max(8, size))
    found, position, error = hop(car_v1(blocks))
    assert ([cid for cid, *_ in found], error) == ([cid.raw for cid, _ in blocks], None)
    assert position == len(car_v1(blocks))


def test_every_cut_of_a_car_gives_the_whole_sections_and_the_place() -> None:
    ends = [
        START,
        *(
            offset + len(section(*block))
            for (_, offset, _, _), block in zip(hop(CAR)[0], BLOCKS, strict=True)
        ),
    ]
    for length in range(START, len(CAR)):
        whole = sum(end <= length for end in ends) - 1
        found, position, error = hop(CAR[:length])
        assert (len(found), position) == (whole, ends[whole])
        assert (error is None) == (length in ends)
        assert error is None or (isinstance(error, Truncated) and error.offset == position)
        streamed, stream_error = stream([CAR[:length]])
        assert (len(streamed), type(stream_error)) == (whole, type(error))


@pytest.mark.parametrize("padding", [1, 3, 5000])
def test_zeros_end_the_data_only_where_asked(padding: int) -> None:
    padded = CAR + bytes(padding)
    found, position, error = hop(padded)
    assert (len(found), position, type(error)) == (len(BLOCKS), len(CAR), Malformed)
    assert error is not None and "offset " + str(len(CAR)) in str(error)
    found, position, error = hop(padded, zero_is_end=True)
    assert (len(found), position, error) == (len(BLOCKS), len(CAR), None)
    assert len(stream([padded], zero_is_end=True)[0]) == len(BLOCKS)
    assert isinstance(stream([padded])[1], Malformed)


BAD = {
    "length of 200 GiB": (bytes.fromhex("e0e0e0e0a706"), LimitExceeded),
    "block over the maximum": (varint.encode(MAX_BLOCK_BYTES + 37) + HELLO.raw, LimitExceeded),
    "varint not shortest": (b"\x85\x00", Malformed),
    "varint too long": (b"\xff" * 10, Malformed),
    "shorter than its CID": (varint.encode(10) + HELLO.raw, Malformed),
    "CID version 48": (varint.encode(40) + b"0" * 40, Malformed),
    "CIDv0 of 33 bytes": (varint.encode(40) + b"\x12\x21" + bytes(38), Malformed),
    "CID of 4 KiB": (varint.encode(5000) + b"\x01\x55\x00\x80\x20" + bytes(5000), LimitExceeded),
}


@pytest.mark.parametrize(("tail", "error"), BAD.values(), ids=BAD.keys())
def test_bad_sections_are_told_with_their_offset(tail: bytes, error: type[CarError]) -> None:
    found, position, caught = hop(CAR + tail + bytes(100))
    assert (len(found), position, type(caught)) == (len(BLOCKS), len(CAR), error)
    assert caught is not None and caught.source == "<memory>" and caught.offset is not None
    assert len(CAR) <= caught.offset <= len(CAR) + 3
    assert type(stream([CAR + tail + bytes(5000)])[1]) is error


@given(st.binary(max_size=200))
def test_any_bytes_behind_a_header_give_sections_or_our_error(tail: bytes) -> None:
    car = V1Header((HELLO,)).encode() + tail
    found, position, error = hop(car)
    streamed, stream_error = stream([car])
    assert position <= len(car)
    assert [cid for cid, *_ in found] == [block.cid for block in streamed]
    assert (error is None) == (stream_error is None)


def test_a_scanner_refuses_food_after_its_end() -> None:
    scanner = SectionScanner()
    scanner.feed_end()
    with pytest.raises(ValueError, match="after the end"):
        scanner.feed(b"x")


def test_sections_are_found_wherever_windows_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every alignment of every kind of section to the end of a window, with the windows made small."""
    monkeypatch.setattr("carlib.section._WIDE_WINDOW", 2600)
    monkeypatch.setattr("carlib.section._NARROW_WINDOW", 2100)
    monkeypatch.setattr("carlib.section._FAR", 300)
    wide = Cid(b"\x01\x55\x13\x80\x08" + bytes(1024))
    for filler in range(0, 2700, 3):
        blocks = [(HELLO, bytes(filler)), *BLOCKS, (wide, b"wide"), (HELLO, bytes(5000)), *BLOCKS]
        car = car_v1(blocks)
        found, position, error = hop(car)
        assert (position, error) == (len(car), None)
        assert [(cid, car[data : data + size]) for cid, _, data, size in found] == [
            (cid.raw, data) for cid, data in blocks
        ]


def test_large_sections_are_hopped_over_whatever_a_window_holds() -> None:
    """Also those of just the length of a window: their data are not read."""

    class Counting(MemorySource):
        read = 0

        def peek(self, offset: int, length: int) -> bytes:
            self.read += length
            return super().peek(offset, length)

    for size in (100_000, (1 << 20) - 38, 1 << 20):
        source = Counting(car_v1(many_blocks(40, size)))
        assert len(list(Sections(source, START, source.size))) == 40
        assert source.read < (1 << 20) + 40 * 5_000


def test_windows_read_through_end_where_sections_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carlib.section.THROUGH_WINDOW", 8_000)
    car = car_v1([(HELLO, bytes(size)) for size in (*range(0, 4_000, 37), 50_000, 5, 7_000, 7_000, 9_000, 1)])
    source = MemorySource(car)
    sections, starts = Sections(source, START, len(car)), []
    for buffer, offset, positions, _ in sections.windows(through=True):
        starts += [offset + position for position in positions]
        end = offset + sections.head(buffer, positions[-1], offset).end
        assert end <= offset + len(buffer) or len(positions) == 1
    assert sections.position == len(car)
    assert starts == [offset for _, offset, _, _ in Sections(source, START, len(car))]
