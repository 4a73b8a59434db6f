"""The links of a block: the same by the fast way and the strict one, and none where a codec has none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib import dagcbor, dagjson, dagpb
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import CBOR, DAG_CBOR, DAG_JSON, DAG_PB, JSON, RAW, Cid
from carlib.dagpb import PBLink, PBNode
from carlib.errors import CarError, UnknownCodec
from carlib.links import links
from carlib.multihash import BLAKE2B_256, SHA2_512
from tests.fixtures import fixture

CIDS = st.one_of(
    st.builds(Cid.of, st.binary(max_size=9), st.sampled_from((RAW, DAG_PB, DAG_CBOR, 0x78, 0xF101))),
    st.builds(Cid.of, st.binary(max_size=9), st.just(RAW), st.sampled_from((BLAKE2B_256, SHA2_512))),
    st.builds(Cid.identity, st.binary(max_size=60)),
    st.binary(max_size=9).map(lambda data: Cid(Cid.of(data).multihash)),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 64), (1 << 64) - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=9),
        st.binary(max_size=9),
        st.sampled_from((23, 24, 255, 256, 1 << 16)).map(bytes),
        st.just(b"\xd8\x2a\x58\x25\x00" * 3),  # what looks like a link and is bytes
        CIDS,
    ),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=9), inner, max_size=5),
    max_leaves=20,
)


def linked(value: Any) -> list[Cid]:
    """The links of ``value`` in the order of dag-cbor, keys by length and then by bytes."""
    if isinstance(value, Cid):
        return [value]
    if isinstance(value, list):
        return [cid for item in value for cid in linked(item)]
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return [cid for key in keys for cid in linked(value[key])]
    return []


@given(VALUES)
def test_links_of_dag_cbor_are_those_of_its_value(value: Any) -> None:
    block = dagcbor.encode(value)
    assert list(links(Cid.of(block, DAG_CBOR), block)) == linked(value) == list(dagcbor.links(block))


@given(VALUES, st.data())
def test_damaged_dag_cbor_gives_links_or_a_car_error(value: Any, draw: st.DataObject) -> None:
    """What the strict scan takes, the fast one finds the same links in; what only one of them takes is damaged."""
    block = bytearray(dagcbor.encode(value))
    block[draw.draw(st.integers(0, len(block) - 1))] = draw.draw(st.integers(0, 255))
    found: list[Cid] | None = None
    try:
        found = list(links(Cid.of(b"", DAG_CBOR), bytes(block)))
    except CarError:
        pass
    try:
        strict = list(dagcbor.links(bytes(block)))
    except CarError:
        return
    assert found == strict


@pytest.mark.parametrize("codec", [DAG_CBOR, DAG_PB, DAG_JSON, RAW, 0x99])
@given(
    block=st.binary(max_size=100) | st.binary(max_size=60).map(lambda tail: b"\x82\xd8\x2a\x58\x25\0" + tail)
)
def test_garbage_gives_links_or_a_car_error(codec: int, block: bytes) -> None:
    try:
        assert all(isinstance(cid, Cid) for cid in links(Cid.of(b"", codec), block))
    except CarError:
        pass


@given(st.lists(CIDS))
def test_links_of_dag_pb_and_dag_json_keep_their_order(cids: list[Cid]) -> None:
    node = dagpb.encode(PBNode(tuple(PBLink(cid, b"name") for cid in cids), b"data"))
    assert list(links(Cid.of(node, DAG_PB), node)) == cids
    text = dagjson.render(list(cids)).encode()
    assert list(links(Cid.of(text, DAG_JSON), text)) == cids


def test_data_before_links_is_how_old_writers_did_it() -> None:
    child = Cid.of(b"child")
    link = dagpb.encode(PBNode((PBLink(child),)))
    data = dagpb.encode(PBNode((), b"data"))
    assert list(links(Cid.of(b"", DAG_PB), data + link)) == [child]


@pytest.mark.parametrize("codec", [RAW, JSON, CBOR])
def test_codecs_without_links_have_none_whatever_the_block_holds(codec: int) -> None:
    assert links(Cid.of(b"", codec), dagcbor.encode([Cid.of(b"child")])) == ()


def test_an_unknown_codec_is_a_leaf_or_an_error_as_asked() -> None:
    cid = Cid.of(b"?", 0x78)
    assert links(cid, b"?") == ()
    with pytest.raises(UnknownCodec, match="codec 0x78 is not supported"):
        links(cid, b"?", unknown_is_leaf=False)


def test_links_of_a_chain_export_are_those_of_the_strict_scan() -> None:
    with ReadOnlyBlockstore.open(fixture("ipld+go-car/v2/testdata/sample-v1.car")) as blocks:
        count = 0
        for cid, _ in blocks.cids():
            if cid.codec == DAG_CBOR:
                block = blocks.get(cid)
                found = list(links(cid, block))
                assert found == list(dagcbor.links(block))
                count += len(found)
    assert count == 6750
