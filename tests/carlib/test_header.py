"""Headers of both versions: what is taken, what is refused, before any memory is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib import header, varint
from carlib.cid import Cid
from carlib.errors import CarError, LimitExceeded, Malformed, Truncated
from carlib.header import FULLY_INDEXED, PRAGMA, V1Header, V2Header
from tests.carlib.cars import BLOCKS, HELLO


def framed(body: str) -> bytes:
    data = bytes.fromhex(body)
    return varint.encode(len(data)) + data


ROOTS, VERSION = "65726f6f7473", "6776657273696f6e"
REFUSED = {
    "roots missing": "a1" + VERSION + "01",
    "roots null": "a2" + ROOTS + "f6" + VERSION + "01",
    "roots a map": "a2" + ROOTS + "a0" + VERSION + "01",
    "root not a link": "a2" + ROOTS + "8101" + VERSION + "01",
    "version missing": "a1" + ROOTS + "80",
    "header null": "f6",
    "header an array": "820180",
    "version a string": "a2" + ROOTS + "80" + VERSION + "6131",
    "version a float": "a2" + ROOTS + "80" + VERSION + "fb3ff0000000000000",
    "version true": "a2" + ROOTS + "80" + VERSION + "f5",
    "version 3": "a2" + ROOTS + "80" + VERSION + "03",
    "unknown key": "a3" + "64626c6970f5" + ROOTS + "80" + VERSION + "01",
    "root under tag 48": "a2" + ROOTS + "81d83044000155000000" + VERSION + "01",
    "not CBOR": "ffff",
}
LENIENT = {
    "key twice": "a3" + ROOTS + "80" + ROOTS + "80" + VERSION + "01",
    "indefinite map": "bf" + ROOTS + "80" + VERSION + "01ff",
    "integer not shortest": "a2" + ROOTS + "80" + VERSION + "1801",
    "trailing byte": "a2" + ROOTS + "80" + VERSION + "0100",
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("strict", [True, False])
def test_a_header_that_is_none_is_malformed(body: str, strict: bool) -> None:
    with pytest.raises((Malformed, Truncated)):
        header.parse_v1(framed(body), strict=strict)


@pytest.mark.parametrize("body", LENIENT.values(), ids=LENIENT.keys())
def test_what_only_go_takes_is_for_lenient(body: str) -> None:
    with pytest.raises(Malformed):
        header.parse_v1(framed(body))
    assert header.parse_v1(framed(body), strict=False).roots == ()


def test_swapped_keys_are_taken_as_both_references_do() -> None:
    assert header.parse_v1(framed("a2" + VERSION + "01" + ROOTS + "80")).roots == ()


@given(st.lists(st.sampled_from([cid for cid, _ in BLOCKS]), max_size=20))
def test_v1_round_trip(roots: list[Cid]) -> None:
    encoded = V1Header(tuple(roots)).encode()
    parsed = header.parse_v1(encoded + b"rest")
    assert (parsed.roots, parsed.length) == (tuple(roots), len(encoded))


def test_the_shortest_header_has_18_bytes() -> None:
    assert V1Header(()).encode().hex() == "11a265726f6f7473806776657273696f6e01"


def test_every_prefix_of_a_header_needs_more() -> None:
    encoded = V1Header((HELLO,)).encode()
    for length in range(len(encoded)):
        with pytest.raises(Truncated):
            header.parse_v1(encoded[:length])


def test_a_header_of_200_gib_dies_before_it_is_read() -> None:
    with pytest.raises(LimitExceeded, match="header length is 216"):
        header.parse_v1(bytes.fromhex("e0e0e0e0a706"))


@given(st.integers(51, 1 << 62), st.integers(1, 1 << 62), st.integers(0, 1 << 62), st.booleans())
def test_v2_round_trip(offset: int, size: int, index: int, full: bool) -> None:
    one = V2Header(offset, size, index)
    one = one.with_fully_indexed() if full else one
    assert V2Header.parse(one.encode()) == one
    assert one.fully_indexed == full == (one.encode()[0] == 0x80)
    assert one.characteristics in (0, FULLY_INDEXED)


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ((0, 0, 0), Malformed, "not finalised"),
        ((50, 10, 0), Malformed, "data offset is out of range: 50"),
        ((1 << 63, 10, 0), Malformed, "data offset is out of range"),
        ((51, 0, 0), Malformed, "data size is out of range: 0"),
        ((51, 10, 1 << 63), Malformed, "index offset is out of range"),
        ((51, 1 << 60, 0), Truncated, "payload ends at"),
    ],
)
def test_v2_fields_out_of_range(fields: tuple[Any, ...], error: type[CarError], text: str) -> None:
    import struct

    with pytest.raises(error, match=text):
        V2Header.parse(bytes(16) + struct.pack("<QQQ", *fields), file_size=1000)


def test_versions_are_told_apart() -> None:
    assert header.version(PRAGMA + b"more") == 2
    assert header.version(V1Header(()).encode()) == 1
    assert header.version(PRAGMA[:5]) is None
    with pytest.raises(Malformed, match="version 42"):
        header.version(bytes.fromhex("0ba16776657273696f6e182a"))
    with pytest.raises(Truncated):
        header.version(b"", complete=True)


@given(st.binary(max_size=100))
def test_any_bytes_give_a_header_or_our_error(data: bytes) -> None:
    for strict in (True, False):
        try:
            header.parse_v1(data, strict=strict)
        except CarError:
            pass
    try:
        V2Header.parse(data)
    except CarError:
        return


@given(st.binary(max_size=60))
def test_any_map_in_a_header_gives_a_header_or_our_error(data: bytes) -> None:
    for strict in (True, False):
        try:
            header.parse_v1(varint.encode(len(data)) + data, strict=strict)
        except CarError:
            pass
