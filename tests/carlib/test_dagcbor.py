"""dag-cbor: strict in, canonical out, links without values."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib import dagcbor, dagjson
from carlib.cid import Cid
from carlib.errors import CarError, LimitExceeded, Malformed, Truncated
from tests.carlib.cars import BLOCKS, HELLO

cids = st.sampled_from([cid for cid, _ in BLOCKS])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | cids
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


def _links(value: Any) -> list[Cid]:
    if isinstance(value, Cid):
        return [value]
    if isinstance(value, list):
        return [cid for item in value for cid in _links(item)]
    if isinstance(value, dict):
        ordered = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return [cid for key in ordered for cid in _links(value[key])]
    return []


@given(values)
def test_round_trip_and_links_in_order(value: Any) -> None:
    block = dagcbor.encode(value)
    assert dagcbor.decode(block) == value
    assert list(dagcbor.links(block)) == _links(value)


FORBIDDEN = {
    "trailing byte": "a000",
    "indefinite list": "9f01ff",
    "indefinite map": "bfff",
    "indefinite text": "7f6161ff",
    "integer not shortest": "1817",
    "integer not shortest, 16 bits": "190001",
    "length not shortest": "780161",
    "key twice": "a2616101616102",
    "keys out of order": "a2616201616101",
    "longer key first": "a262616101616201",
    "integer key": "a10101",
    "tag 0": "c06161",
    "tag 2 (bignum)": "c24101",
    "tag 42 on text": "d82a6161",
    "link without the zero byte": "d82a450155000161",
    "link with bytes after the CID": "d82a4600015500ff61",
    "half float": "f93c00",
    "single float": "fa3f800000",
    "NaN": "fb7ff8000000000000",
    "infinity": "fb7ff0000000000000",
    "undefined": "f7",
    "simple value 32": "f820",
    "break alone": "ff",
    "not UTF-8": "61ff",
}


@pytest.mark.parametrize("block", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_what_dag_cbor_forbids_is_malformed(block: str) -> None:
    with pytest.raises(Malformed):
        dagcbor.decode(bytes.fromhex(block))


@pytest.mark.parametrize(
    "block", ["", "61", "82", "8201", "a16161", "d82a", "fb3ff0", "1b00", "5b7fffffffffffffff"]
)
def test_a_cut_block_is_truncated(block: str) -> None:
    with pytest.raises((Truncated, Malformed)):
        dagcbor.decode(bytes.fromhex(block))


def test_a_giant_length_takes_no_memory() -> None:
    with pytest.raises(Truncated):
        dagcbor.decode(bytes.fromhex("9b00ffffffffffffff"))


def test_depth_has_a_limit() -> None:
    with pytest.raises(LimitExceeded, match="depth"):
        dagcbor.decode(b"\x81" * 1000 + b"\x80")


def test_text_that_is_not_utf8_is_readable_when_not_strict_and_written_back() -> None:
    value = dagcbor.decode(b"\x62\xff\x41", strict=False)
    assert dagcbor.encode(value) == b"\x62\xff\x41"
    assert list(dagcbor.links(b"\x62\xff\x41")) == []


@given(st.binary(max_size=80))
def test_any_bytes_give_a_value_or_our_error(block: bytes) -> None:
    try:
        value = dagcbor.decode(block)
    except CarError:
        return
    assert dagcbor.encode(value) == block


@given(values)
def test_dag_json_round_trip(value: Any) -> None:
    text = dagjson.render(value)
    if not _has_slash_key(value):
        assert dagjson.decode(text.encode()) == value


def _has_slash_key(value: Any) -> bool:
    if isinstance(value, dict):
        return "/" in value or any(map(_has_slash_key, value.values()))
    return isinstance(value, list) and any(map(_has_slash_key, value))


def test_dag_json_shows_links_and_bytes() -> None:
    text = dagjson.render({"link": HELLO, "bytes": b"\x00\x01", "bad": "\udcff"}, indent=None)
    assert text == f'{{"link": {{"/": "{HELLO}"}}, "bytes": {{"/": {{"bytes": "AAE"}}}}, "bad": "\ufffd"}}'
    assert list(dagjson.links(text.encode())) == [HELLO]


@given(st.binary(max_size=40) | st.text(alphabet='{}[]":/,0123456789bytesnul', max_size=40).map(str.encode))
def test_any_bytes_as_dag_json_give_a_value_or_our_error(block: bytes) -> None:
    try:
        dagjson.decode(block)
    except CarError:
        return


@pytest.mark.parametrize("block", [b"1e400", b"[-1E999]", b'{"a":1,"a":1}', b'[{"b":{},"a":2,"b":{}}]'])
def test_dag_json_refuses_numbers_out_of_range_and_keys_that_stand_twice(block: bytes) -> None:
    with pytest.raises(Malformed):
        dagjson.decode(block)


@pytest.mark.parametrize("block", [b'"a\\ud800"', b'{"\\udfff":"\\ud800\\ud801"}'])
def test_dag_json_that_escapes_half_a_pair_is_shown(block: bytes) -> None:
    shown = dagjson.render(dagjson.decode(block))
    assert "?" in shown
    assert json.loads(shown.encode())
