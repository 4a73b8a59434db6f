"""Varints: shortest form, nine bytes, nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib import varint
from carlib.errors import CarError, Malformed, Truncated


@given(st.integers(0, (1 << 63) - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_round_trip_anywhere_in_a_buffer(value: int, before: bytes, after: bytes) -> None:
    encoded = varint.encode(value)
    buffer = before + encoded + after
    assert varint.decode(buffer, len(before), len(buffer)) == (value, len(before) + len(encoded))


@pytest.mark.parametrize("text", ["8000", "ff00", "80808000"])
def test_longer_forms_than_needed_are_malformed(text: str) -> None:
    with pytest.raises(Malformed, match="shortest"):
        varint.decode(bytes.fromhex(text), 0, len(text) // 2)


def test_ten_bytes_are_malformed_and_nine_without_end_too() -> None:
    with pytest.raises(Malformed, match="longer than 9"):
        varint.decode(b"\xff" * 9 + b"\x01", 0, 10)
    with pytest.raises(Malformed, match="longer than 9"):
        varint.decode(b"\xff" * 9, 0, 9)


def test_a_cut_varint_needs_more() -> None:
    with pytest.raises(Truncated):
        varint.decode(b"\x80", 0, 1)
    with pytest.raises(Truncated):
        varint.decode(b"", 0, 0)


@pytest.mark.parametrize("value", [-1, 1 << 63])
def test_values_out_of_range_are_the_callers_mistake(value: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        varint.encode(value)


@given(st.binary(max_size=12))
def test_any_bytes_give_a_value_or_our_error(data: bytes) -> None:
    try:
        value, end = varint.decode(data, 0, len(data))
    except CarError:
        return
    assert varint.encode(value) == data[:end]
