"""Files by byte range: right for every layout, touching only what is on the way."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib import dagpb
from carlib.blockstore import MemoryBlocks, ReadOnlyBlockstore
from carlib.cid import DAG_CBOR, DAG_PB, Cid
from carlib.dagpb import PBLink
from carlib.errors import BlockNotFound, CarError, LimitExceeded, Malformed, NotUnixFs
from carlib.limits import MAX_DAG_DEPTH
from carlib.unixfs import File, Leaf, leaf_payload
from carlib.unixfs.builder import Builder
from carlib.unixfs.cache import NodeCache
from carlib.unixfs.node import Data, DataType
from carlib.unixfs.profile import CARFS, Layout, Profile
from tests.carlib.nodes import CountingBlocks, put, put_directory, put_file, put_node, put_raw
from tests.fixtures import fixture

PROFILES = st.builds(
    dataclasses.replace,
    st.just(CARFS),
    chunk_size=st.integers(1, 40),
    width=st.integers(2, 5),
    raw_leaves=st.booleans(),
    layout=st.sampled_from(Layout),
)


def built(profile: Profile, data: bytes, blocks: MemoryBlocks) -> Cid:
    size = profile.chunk_size
    builder = Builder(blocks, profile)
    return builder.file([data[start : start + size] for start in range(0, len(data), size)]).cid


def wrapped(blocks: MemoryBlocks, data: bytes, kind: DataType = DataType.FILE) -> Cid:
    return put_node(blocks, (), Data(kind, data, len(data)).encode())


@given(PROFILES, st.binary(max_size=400), st.data())
def test_any_range_of_any_layout_equals_the_slice(profile: Profile, data: bytes, draw: st.DataObject) -> None:
    blocks = MemoryBlocks()
    file = File.open(blocks, built(profile, data, blocks))
    start, size = draw.draw(st.integers(0, 450)), draw.draw(st.integers(0, 450))
    assert file.size == len(data)
    assert file.read(start, size) == data[start : start + size]
    assert file.read(0, len(data)) == data


@given(PROFILES, st.binary(min_size=1, max_size=400))
def test_leaves_tile_the_file(profile: Profile, data: bytes) -> None:
    blocks = MemoryBlocks()
    file = File.open(blocks, built(profile, data, blocks))
    leaves = list(file.leaves())
    assert (leaves[0].start, leaves[-1].stop) == (0, len(data))
    assert all(one.stop == other.start for one, other in pairwise(leaves))
    for leaf in leaves:
        assert file.leaf_at(leaf.start) == file.leaf_at(leaf.stop - 1) == leaf
        assert leaf_payload(leaf.cid, blocks.get(leaf.cid), leaf) == data[leaf.start : leaf.stop]


@given(PROFILES, st.binary(min_size=1, max_size=200), st.data())
def test_a_damaged_tree_gives_bytes_or_a_car_error(
    profile: Profile, data: bytes, draw: st.DataObject
) -> None:
    """The root's block is damaged and hashed anew, as somebody would who means harm."""
    blocks = MemoryBlocks()
    root = bytearray(blocks.get(built(profile, data, blocks)))
    root[draw.draw(st.integers(0, len(root) - 1))] ^= draw.draw(st.integers(1, 255))
    try:
        file = File.open(blocks, put(blocks, bytes(root)))
        assert len(file.read(draw.draw(st.integers(0, 300)), 1000)) <= 1000
    except CarError:
        pass


def mixed(blocks: MemoryBlocks) -> Cid:
    """One file with every kind of part: inline data, raw, dag-pb File and Raw, identity, and a deeper node."""
    deeper = put_file(blocks, [(put_raw(blocks, b"fg"), 2)], inline=b"de")
    return put_file(
        blocks,
        [
            (put_raw(blocks, b"bc"), 2),
            (deeper, 4),
            (Cid.identity(b"h"), 1),
            (wrapped(blocks, b"ij"), 2),
            (put_raw(blocks, b""), 0),
            (wrapped(blocks, b"kl", DataType.RAW), 2),
            (Cid.identity(dagpb.encode(dagpb.PBNode((), Data(DataType.FILE, b"m", 1).encode())), DAG_PB), 1),
        ],
        inline=b"a",
    )


def test_inline_data_comes_before_children_and_leaves_may_be_of_any_kind() -> None:
    blocks = MemoryBlocks()
    file = File.open(blocks, mixed(blocks))
    assert file.read(0, 100) == b"abcdefghijklm"
    assert [file.read(at, 1) for at in range(13)] == [bytes((97 + at,)) for at in range(13)]
    assert [(leaf.start, leaf.stop, leaf.wrapped) for leaf in file.leaves()] == [
        (0, 1, True),
        (1, 3, False),
        (3, 5, True),
        (5, 7, False),
        (7, 8, False),
        (8, 10, True),
        (10, 12, True),
        (12, 13, True),
    ]


def test_raw_roots_and_other_codecs_are_files_of_one_leaf() -> None:
    blocks = CountingBlocks()
    for cid in (put_raw(blocks, b"abc"), put(blocks, b"abc", DAG_CBOR), Cid.identity(b"abc")):
        file = File.open(blocks, cid)
        assert not blocks.read, "only sizes are asked for"
        assert file.leaf_at(1) == Leaf(cid, 0, 3, wrapped=False)
        assert file.read(1, 9) == b"bc"
        blocks.read.clear()


def test_dag_pb_without_unixfs_is_a_file_of_its_block() -> None:
    blocks = MemoryBlocks()
    cid = put_node(blocks, [PBLink(Cid.of(b""))])
    file = File.open(blocks, cid)
    assert file.read(0, file.size) == blocks.get(cid)


def test_an_empty_file_has_no_leaves() -> None:
    blocks = MemoryBlocks()
    for cid in (put_raw(blocks, b""), wrapped(blocks, b""), put_file(blocks, [])):
        file = File.open(blocks, cid)
        assert (file.size, list(file.leaves()), file.read(0, 10)) == (0, [], b"")
        with pytest.raises(ValueError, match="not in a file of 0 bytes"):
            file.leaf_at(0)


def test_a_look_up_reads_only_the_inner_nodes_on_its_path_and_keeps_them() -> None:
    blocks = CountingBlocks()
    data = bytes(range(256))
    file = File.open(blocks, built(dataclasses.replace(CARFS, chunk_size=1, width=4), data, blocks))
    blocks.read.clear()
    leaf = file.leaf_at(200)
    assert len(blocks.read) == 3, "four levels of nodes, of which the root is there; the leaf is raw"
    assert bytes(leaf_payload(leaf.cid, blocks.get(leaf.cid), leaf)) == b"\xc8"
    blocks.read.clear()
    assert file.leaf_at(203).start == 203
    assert blocks.read == []


def test_missing_blocks_outside_of_the_range_do_not_matter() -> None:
    blocks = CountingBlocks()
    first, second = put_raw(blocks, b"abc"), put_raw(blocks, b"def")
    file = File.open(blocks, put_file(blocks, [(first, 3), (second, 3)]))
    blocks.forget(first)
    assert file.read(3, 3) == b"def"
    with pytest.raises(BlockNotFound):
        file.read(2, 3)


def test_a_shared_cache_is_bounded_by_weight() -> None:
    cache: NodeCache[int] = NodeCache(100)
    for number in range(1000):
        cache.put(b"%d" % number, number, 10)
    assert cache.weight == 100
    assert (cache.get(b"0"), cache.get(b"999")) == (None, 999)


@pytest.mark.parametrize(
    "changes",
    [
        {"blocksizes": ()},
        {"blocksizes": (3,), "filesize": 3},
        {"blocksizes": (3, 3, 0), "filesize": 6},
        {"filesize": 7},
    ],
)
def test_a_root_that_contradicts_itself_is_malformed(changes: dict[str, Any]) -> None:
    blocks = MemoryBlocks()
    leaf = put_raw(blocks, b"abc")
    with pytest.raises(Malformed):
        File.open(blocks, put_file(blocks, [(leaf, 3), (leaf, 3)], **changes))


def test_a_named_link_in_a_file_is_malformed() -> None:
    blocks = MemoryBlocks()
    data = Data(DataType.FILE, None, 3, (3,)).encode()
    with pytest.raises(Malformed, match="named link"):
        File.open(blocks, put_node(blocks, [PBLink(put_raw(blocks, b"abc"), b"x")], data))


def test_children_that_are_not_what_their_parent_says_are_malformed_where_they_are_reached() -> None:
    blocks = MemoryBlocks()
    good, deeper = put_raw(blocks, b"abc"), put_file(blocks, [(put_raw(blocks, b"abc"), 3)])
    for liar in (good, wrapped(blocks, b"abc"), deeper, Cid.identity(b"abc")):
        file = File.open(blocks, put_file(blocks, [(good, 3), (liar, 4)]))
        assert file.read(0, 3) == b"abc"
        with pytest.raises(Malformed):
            file.read(3, 4)


def test_what_is_no_file_is_refused() -> None:
    blocks = MemoryBlocks()
    directory = put_directory(blocks, [])
    symlink = put_node(blocks, (), Data(DataType.SYMLINK, b"x").encode())
    for cid in (directory, symlink):
        with pytest.raises(NotUnixFs):
            File.open(blocks, cid)
        with pytest.raises(CarError):
            File.open(blocks, put_file(blocks, [(cid, 1)])).read(0, 1)
    with pytest.raises(Malformed):
        File.open(blocks, put_file(blocks, [(put(blocks, b"\xa0", DAG_CBOR), 1)])).read(0, 1)


def test_a_very_deep_file_is_refused_and_a_fairly_deep_one_read() -> None:
    blocks = MemoryBlocks()
    cid, cids = put_raw(blocks, b"x"), []
    for _ in range(MAX_DAG_DEPTH + 1):
        cid = put_file(blocks, [(cid, 1)])
        cids.append(cid)
    assert File.open(blocks, cids[MAX_DAG_DEPTH - 1]).read(0, 1) == b"x"
    with pytest.raises(LimitExceeded):
        File.open(blocks, cids[MAX_DAG_DEPTH]).read(0, 1)


def test_one_child_repeated_without_end_is_read_by_range() -> None:
    """An exabyte in eleven blocks is a legal file; a read costs what it reads."""
    blocks = CountingBlocks()
    cid, size = put_raw(blocks, b"x"), 1
    for _ in range(6):
        cid, size = put_file(blocks, [(cid, size)] * 1000), size * 1000
    file = File.open(blocks, cid)
    assert file.size == 10**18
    assert file.read(10**18 - 10, 100) == b"x" * 10
    assert len(blocks.read) < 20


def test_children_without_bytes_are_passed_over() -> None:
    blocks = CountingBlocks()
    empty = wrapped(blocks, b"")
    children = [(empty, 0)] * 50_000
    file = File.open(blocks, put_file(blocks, [*children, (put_raw(blocks, b"x"), 1), *children]))
    blocks.read.clear()
    assert file.read(0, 2) == b"x"
    assert len(blocks.read) == 1


def test_two_ranges_of_a_partial_file_whose_blocks_are_filed_under_raw_cids() -> None:
    with ReadOnlyBlockstore.open(fixture("ipfs+kubo/test/cli/fixtures/TestGatewayMultiRange.car")) as blocks:
        file = File.open(blocks, Cid.parse("bafybeiae5abzv6j3ucqbzlpnx3pcqbr2otbnpot7d2k5pckmpymin4guau"))
        assert file.size == 109266405
        assert (file.read(1276, 4), file.read(29839070, 11)) == (b"iana", b"EXAMPLE.COM")
        with pytest.raises(BlockNotFound):
            file.read(0, file.size)
