"""dag-pb against the specification's own fixtures, and against garbage."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib import dagpb, limits
from carlib.cid import DAG_PB, Cid
from carlib.dagpb import PBLink, PBNode
from carlib.errors import CarError, LimitExceeded, Malformed, Truncated
from carlib.limits import MAX_BLOCK_BYTES, MAX_LINKS
from carlib.protobuf import repeats
from tests.fixtures import fixture

A = Cid.parse("bafkqabiaaebagba")  # identity, 00 01 02 03 04
HASH_A = bytes.fromhex("0a09015500050001020304")

CIDS = st.binary(max_size=40).flatmap(
    lambda data: st.sampled_from(
        [Cid.of(data), Cid.of(data, DAG_PB), Cid.identity(data), Cid(Cid.of(data).multihash)]
    )
)
UINT64 = st.integers(0, 2**64 - 1)


@st.composite
def _links(draw: st.DrawFn) -> PBLink:
    named, sized = draw(st.booleans()), draw(st.booleans())
    return PBLink(
        draw(CIDS),
        draw(st.binary(max_size=200)) if named else b"",
        draw(UINT64) if sized else 0,
        named,
        sized,
    )


NODES = st.builds(PBNode, st.lists(_links(), max_size=6).map(tuple), st.none() | st.binary(max_size=300))


@pytest.mark.parametrize(
    ("block", "node"),
    [
        ("", PBNode()),
        ("0a00", PBNode((), b"")),
        ("0a050001020304", PBNode((), b"\0\1\2\3\4")),
        ("120b0a09015500050001020304", PBNode((PBLink(A, named=False, sized=False),))),
        ("12160a090155000500010203041209736f6d65206e616d65", PBNode((PBLink(A, b"some name", sized=False),))),
        ("120d0a090155000500010203041200", PBNode((PBLink(A, b"", sized=False),))),
        ("12140a0901550005000102030418ffffffffffffff0f", PBNode((PBLink(A, tsize=2**53 - 1, named=False),))),
        ("120d0a090155000500010203041800", PBNode((PBLink(A, tsize=0, named=False),))),
    ],
)
def test_nodes_of_the_specification(block: str, node: PBNode) -> None:
    assert dagpb.decode(bytes.fromhex(block)) == node
    assert dagpb.encode(node).hex() == block


def test_every_fixture_of_the_specification_is_written_back_exactly() -> None:
    text = fixture("ipld+ipld/specs/codecs/dag-pb/fixtures/cross-codec/index.md").read_text()
    found = re.findall(
        r"\((\S+)/dag-pb/bytes\)\n```\n([0-9a-f\n]*)```.*?\(\1/dag-pb/cid\)\n```\n(\S+)", text, re.DOTALL
    )
    assert len(found) == 17
    for name, digits, cid in found:
        block = bytes.fromhex(digits)
        assert dagpb.encode(dagpb.decode(block)) == block, name
        assert str(Cid.of(block, DAG_PB)) == cid, name


@given(NODES)
def test_what_was_encoded_is_decoded(node: PBNode) -> None:
    block = dagpb.encode(node)
    assert dagpb.decode(block) == node
    assert dagpb.decode(memoryview(block)) == node
    assert list(dagpb.links(block)) == [link.cid for link in node.links]
    assert dagpb.data_of(block) == node.data


@given(NODES, st.data())
def test_any_prefix_is_a_node_or_truncated(node: PBNode, data: st.DataObject) -> None:
    block = dagpb.encode(node)
    prefix = block[: data.draw(st.integers(0, len(block)))]
    try:
        dagpb.decode(prefix)
    except Truncated:
        pass


@given(st.binary(max_size=100), st.booleans())
def test_garbage_is_a_node_or_a_car_error(garbage: bytes, strict: bool) -> None:
    for read in (dagpb.decode, dagpb.data_of):
        try:
            read(garbage, strict=strict)
        except CarError:
            pass


@given(NODES, st.data())
def test_a_flipped_byte_is_a_node_or_a_car_error(node: PBNode, data: st.DataObject) -> None:
    block = bytearray(dagpb.encode(node) or b"\0")
    block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = dagpb.decode(block)
    except CarError:
        return
    assert dagpb.encode(decoded) == block, "two blocks of one node"


@pytest.mark.parametrize(
    ("what", "block"),
    [
        ("unknown field of a node", b"\x1a\x00"),
        ("wrong wire type of a node", b"\x08\x00"),
        ("Data twice", b"\x0a\x00\x0a\x00"),
        ("a link after Data", b"\x0a\x00\x12\x0b" + HASH_A),
        ("a link without Hash", b"\x12\x00"),
        ("Name before Hash", b"\x12\x0d\x12\x00" + HASH_A),
        ("Tsize before Name", b"\x12\x0f" + HASH_A + b"\x18\x00\x12\x00"),
        ("Hash twice", b"\x12\x16" + HASH_A * 2),
        ("Name twice", b"\x12\x0f" + HASH_A + b"\x12\x00" * 2),
        ("unknown field of a link", b"\x12\x0d" + HASH_A + b"\x22\x00"),
        ("length that is not in its shortest form", b"\x0a\x81\x00\x00"),
        ("Tsize that is not in its shortest form", b"\x12\x0e" + HASH_A + b"\x18\x80\x00"),
        ("Tsize of 65 bits", b"\x12\x16" + HASH_A + b"\x18" + b"\xff" * 9 + b"\x02"),
        ("a Hash that is no CID", b"\x12\x04\x0a\x02\x07\x55"),
        ("bytes after the CID", b"\x12\x0c\x0a\x0a\x01\x55\x00\x05\x00\x01\x02\x03\x04\x05"),
    ],
)
def test_what_the_specification_forbids_is_malformed(what: str, block: bytes) -> None:
    with pytest.raises(Malformed):
        dagpb.decode(block)


@pytest.mark.parametrize(
    "block", [b"\x0a", b"\x0a\x01", b"\x12", b"\x12\x05\x0a", b"\x0a\xff", b"\x0a\xff\xff\xff\xff\x7f"]
)
def test_lengths_past_the_end_are_truncated(block: bytes) -> None:
    with pytest.raises(Truncated):
        dagpb.decode(block)
    with pytest.raises(Truncated):
        dagpb.data_of(block)


def test_data_before_links_is_read_when_not_strict() -> None:
    assert dagpb.decode(b"\x0a\x00\x12\x0b" + HASH_A, strict=False) == PBNode(
        (PBLink(A, named=False, sized=False),), b""
    )


def test_a_block_over_the_maximum_is_refused_before_it_is_copied() -> None:
    with pytest.raises(LimitExceeded):
        dagpb.decode(bytes(limits.MAX_BLOCK_BYTES + 1))


def test_more_links_than_the_maximum_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dagpb, "MAX_LINKS", 2)
    node: Any = PBNode((PBLink(A),) * 3)
    with pytest.raises(LimitExceeded):
        dagpb.decode(dagpb.encode(node))


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 300), st.sampled_from([b"", b"x"])), max_size=12),
    st.booleans(),
)
def test_runs_of_links_that_differ_in_their_digests_alone_are_read_as_any_others(
    runs: list[tuple[int, int, bytes]], with_data: bool
) -> None:
    numbers = iter(range(1000))
    links = tuple(
        PBLink(Cid.of(next(numbers).to_bytes(4, "big")), name, tsize)
        for count, tsize, name in runs
        for _ in range(count)
    )
    node = PBNode(links, b"data" if with_data else None)
    assert dagpb.decode(dagpb.encode(node)) == node
    if links:
        with pytest.raises((Truncated, Malformed)):
            dagpb.decode(dagpb.encode(PBNode(links))[:-1])


@given(st.binary(min_size=1, max_size=6), st.integers(1, 700), st.binary(max_size=20))
def test_repeats_are_counted_to_where_they_end(unit: bytes, count: int, rest: bytes) -> None:
    buffer = b"before" + unit * count + rest
    expected = count
    while buffer[6 + expected * len(unit) :].startswith(unit):
        expected += 1
    assert repeats(buffer, 6, len(unit), len(buffer)) == expected
    assert repeats(memoryview(buffer), 6, len(unit), 6 + len(unit)) == 1


def test_as_many_links_as_are_allowed_are_read_and_one_more_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    links = tuple(PBLink(Cid.of(bytes((number,))), b"", 1) for number in range(20))
    monkeypatch.setattr(dagpb, "MAX_LINKS", 20)
    assert len(dagpb.decode(dagpb.encode(PBNode(links))).links) == 20
    monkeypatch.setattr(dagpb, "MAX_LINKS", 19)
    with pytest.raises(LimitExceeded, match="number of links"):
        dagpb.decode(dagpb.encode(PBNode(links)))


def test_the_largest_block_holds_fewer_links_with_hashes_than_are_allowed() -> None:
    smallest = dagpb.link_size(len(Cid.of(b"").multihash), 0, 0) - 4  # neither name nor size
    assert MAX_BLOCK_BYTES // smallest < MAX_LINKS
