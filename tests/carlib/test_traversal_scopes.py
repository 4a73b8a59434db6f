"""Paths, scopes and byte ranges: the blocks that a trustless gateway sends, and none besides."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib import dagcbor, dagjson
from carlib.blockstore import MemoryBlocks, ReadOnlyBlockstore
from carlib.cid import DAG_CBOR, DAG_JSON, RAW, Cid
from carlib.dagpb import PBLink
from carlib.errors import BlockNotFound, CarError, LimitExceeded, Malformed, NotUnixFs
from carlib.traversal import ByteRange, Limits, NoSuchField, Request, Rules, Scope, Traversal
from carlib.unixfs import Directory, File, NoSuchEntry
from carlib.unixfs.builder import Builder
from carlib.unixfs.node import Data, DataType
from carlib.unixfs.profile import CARFS, Layout, Profile
from tests.carlib.nodes import CountingBlocks, put, put_directory, put_file, put_node, put_raw, put_shard
from tests.fixtures import fixture

PROFILES = st.builds(
    dataclasses.replace,
    st.just(CARFS),
    chunk_size=st.integers(1, 40),
    width=st.integers(2, 5),
    raw_leaves=st.booleans(),
    layout=st.sampled_from(Layout),
)
BOUNDS = st.integers(-450, 450)


def file_of(profile: Profile, data: bytes, blocks: MemoryBlocks) -> Cid:
    size = profile.chunk_size
    return Builder(blocks, profile).file([data[at : at + size] for at in range(0, len(data), size)]).cid


def walked(
    blocks: MemoryBlocks | ReadOnlyBlockstore, root: Cid, *path: bytes, **request: object
) -> list[Cid]:
    traversal = Traversal(blocks, (Request(root, path, **request),))  # type: ignore[arg-type]  # Request checks them
    return [visit.cid for visit in traversal.walk()]


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("0:*", 10, (0, 10)),
        ("0:0", 10, (0, 1)),
        ("2:5", 10, (2, 6)),
        ("2:99", 10, (2, 10)),
        ("-1:*", 10, (9, 10)),
        ("-3:-2", 10, (7, 9)),
        ("-99:-1", 10, (0, 10)),
        ("4:-2", 10, (4, 9)),
        ("499:-1000", 10_000, (499, 9001)),
        ("-4:8", 10, (6, 9)),
        ("9:-9", 10, (0, 0)),
        ("10:*", 10, (0, 0)),
        ("0:-99", 10, (0, 0)),
        ("0:*", 0, (0, 0)),
    ],
)
def test_ranges_are_inclusive_and_count_from_either_end(
    text: str, size: int, expected: tuple[int, int]
) -> None:
    assert ByteRange.parse(text).within(size) == expected


@pytest.mark.parametrize(
    "text", ["", "1", "1:", ":1", "*:1", "1:2:3", "5:4", "-1:-2", "0x1:2", " 1:2", "1:²", "1:" + "9" * 20]
)
def test_what_is_no_range_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        ByteRange.parse(text)


@given(PROFILES, st.binary(max_size=400), BOUNDS, st.none() | BOUNDS)
def test_a_range_takes_the_blocks_of_its_bytes_and_no_leaf_more(
    profile: Profile, data: bytes, first: int, last: int | None
) -> None:
    """Only from what the walk gave, the range can be read; and the file's own reader would touch no fewer blocks."""
    store, reading = CountingBlocks(), CountingBlocks()
    root = file_of(profile, data, store)
    start, stop = ByteRange(first, last).within(len(data))
    for visit in Traversal(store, (Request(root, entity_bytes=ByteRange(first, last)),)).walk():
        reading.put(visit.cid, store.get(visit.cid))
        store.read.clear()
    assert File.open(reading, root).read(start, stop - start) == data[start:stop]
    assert {cid.multihash for cid in reading.read} | {root.multihash} == set(reading._blocks)


@given(PROFILES, st.binary(min_size=1, max_size=400))
def test_an_entity_is_the_whole_file_in_depth_first_order(profile: Profile, data: bytes) -> None:
    blocks = MemoryBlocks()
    root = file_of(profile, data, blocks)
    everything = walked(blocks, root)
    assert walked(blocks, root, scope=Scope.ENTITY) == everything
    assert walked(blocks, root, entity_bytes=ByteRange(0)) == everything
    assert walked(blocks, root, scope=Scope.BLOCK) == everything[:1]


def test_a_range_succeeds_where_blocks_outside_of_it_are_missing() -> None:
    blocks = CountingBlocks()
    parts = [put_raw(blocks, bytes([number]) * 10) for number in range(5)]
    root = put_file(blocks, [(part, 10) for part in parts])
    blocks.forget(parts[2])
    assert walked(blocks, root, entity_bytes=ByteRange(0, 19)) == [root, *parts[:2]]
    assert walked(blocks, root, entity_bytes=ByteRange(30)) == [root, *parts[3:]]
    with pytest.raises(BlockNotFound):
        walked(blocks, root, entity_bytes=ByteRange(19, 20))


def test_a_range_outside_of_the_file_is_its_root_alone() -> None:
    blocks = MemoryBlocks()
    root = put_file(blocks, [(put_raw(blocks, b"0123456789"), 10)])
    assert walked(blocks, root, entity_bytes=ByteRange(10)) == [root]


def test_a_file_that_repeats_itself_is_walked_in_its_size() -> None:
    """2^60 bytes in 60 blocks; each inner node that is wanted whole is gone through once."""
    blocks = MemoryBlocks()
    cid, size = put_raw(blocks, b"x"), 1
    for _ in range(60):
        cid, size = put_file(blocks, [(cid, size), (cid, size)]), size * 2
    assert len(walked(blocks, cid, scope=Scope.ENTITY)) == 61
    assert len(walked(blocks, cid, entity_bytes=ByteRange(1, -2))) == 61
    rules = Rules(duplicates=True, limits=Limits(blocks=1000))
    with pytest.raises(LimitExceeded):
        list(Traversal(blocks, (Request(cid, scope=Scope.ENTITY),), rules).walk())


def test_files_whose_parts_are_no_files_or_of_other_sizes_are_errors() -> None:
    blocks = MemoryBlocks()
    directory = put_directory(blocks, [])
    short = put_file(blocks, [(put_raw(blocks, b"ab"), 2)])
    with pytest.raises(NotUnixFs):
        walked(blocks, put_file(blocks, [(directory, 2)]), scope=Scope.ENTITY)
    with pytest.raises(Malformed, match="has 2 bytes where its parent says 3"):
        walked(blocks, put_file(blocks, [(short, 3)]), scope=Scope.ENTITY)


def test_an_entity_of_a_directory_has_no_children_and_ignores_a_range() -> None:
    blocks = MemoryBlocks()
    root = put_directory(blocks, [(b"a", put_raw(blocks, b"a"))])
    assert walked(blocks, root, scope=Scope.ENTITY) == [root]
    assert walked(blocks, root, entity_bytes=ByteRange(5)) == [root]


def test_an_entity_of_anything_else_is_one_block() -> None:
    blocks = MemoryBlocks()
    raw = put_raw(blocks, b"raw")
    link = put_node(blocks, (), Data(DataType.SYMLINK, b"raw").encode())
    plain = put_node(blocks, (PBLink(raw),))
    other = put_node(blocks, (PBLink(raw),), b"not UnixFS")
    for cid in (raw, link, plain, other, put(blocks, dagcbor.encode([raw]), DAG_CBOR)):
        assert walked(blocks, cid, scope=Scope.ENTITY) == [cid]


HAMT = "ipfs+kubo/test/cli/fixtures/TestGatewayHAMTDirectory.car"
HAMT_ROOT = Cid.parse("bafybeiggvykl7skb2ndlmacg2k5modvudocffxjesexlod2pfvg5yhwrqm")


def test_a_sharded_directory_is_all_its_shards_and_a_path_only_those_on_the_way() -> None:
    with ReadOnlyBlockstore.open(fixture(HAMT)) as blocks:
        shards = walked(blocks, HAMT_ROOT, scope=Scope.ENTITY)
        name = next(iter(Directory.open(blocks, HAMT_ROOT))).name
        walk = Traversal(blocks, (Request(HAMT_ROOT, (name,)),), Rules(skip_missing=True)).walk()
        passed = [visit.cid for visit in walk]
    assert len(shards) == 961
    assert passed[0] == HAMT_ROOT
    assert len(passed) == 2
    assert len(walk.missing) == 1  # the file itself is not in this CAR


def test_a_name_that_is_not_there_is_proven_absent() -> None:
    with ReadOnlyBlockstore.open(fixture(HAMT)) as blocks:
        walk = Traversal(blocks, (Request(HAMT_ROOT, (b"nothing",)),)).walk()
        proof = MemoryBlocks()
        with pytest.raises(NoSuchEntry):
            for visit in walk:
                proof.put(visit.cid, blocks.get(visit.cid))
    assert Directory.open(proof, HAMT_ROOT).lookup(b"nothing") is None


@pytest.mark.parametrize(("text", "leaf"), [("1276:1279", "QmauB9tm"), ("29839070:29839080", "Qmeyuq66")])
def test_ranges_of_a_partial_file(text: str, leaf: str) -> None:
    """Kubo's fixture has the first and the last part of a 30 MB file, each block filed as raw."""
    root = Cid.parse("bafybeiae5abzv6j3ucqbzlpnx3pcqbr2otbnpot7d2k5pckmpymin4guau")
    with ReadOnlyBlockstore.open(fixture("ipfs+kubo/test/cli/fixtures/TestGatewayMultiRange.car")) as blocks:
        found = walked(blocks, root, entity_bytes=ByteRange.parse(text))
        with pytest.raises(BlockNotFound):
            walked(blocks, root, scope=Scope.ENTITY)
    assert [str(cid)[:8] for cid in found] == ["bafybeia", "QmaUDZTJ", leaf]


def test_path_blocks_come_first_and_a_sharded_directory_is_passed_through() -> None:
    path = "ipld+go-car/cmd/car/testdata/inputs/wikipedia-cryptographic-hash-function.car"
    with ReadOnlyBlockstore.open(fixture(path)) as blocks:
        names = (b"wiki", b"Cryptographic_hash_function")
        assert walked(blocks, blocks.roots[0], *names) == [cid for cid, _ in blocks.cids()]


def test_a_block_on_the_path_is_not_given_again() -> None:
    blocks = MemoryBlocks()
    inner = put_directory(blocks, [(b"f", put_raw(blocks, b"f"))])
    root = put_directory(blocks, [(b"d", inner), (b"e", inner)])
    requests = (Request(root, (b"d",)), Request(root, (b"e", b"f")), Request(root))
    found = [visit.cid for visit in Traversal(blocks, requests).walk()]
    assert found == [root, inner, put_raw(blocks, b"f")]


@pytest.mark.parametrize(("codec", "encode"), [(DAG_CBOR, dagcbor.encode), (DAG_JSON, None)])
def test_paths_lead_through_structured_blocks(codec: int, encode: object) -> None:
    blocks = MemoryBlocks()
    leaf = put_raw(blocks, b"leaf")
    directory = put_directory(blocks, [(b"name", leaf)])
    value = {"a": [{"b": directory}, 5], "text": "here"}
    data = dagcbor.encode(value) if encode is not None else dagjson.render(value).encode()
    root = put(blocks, data, codec)
    assert walked(blocks, root, b"a", b"0", b"b", b"name") == [root, directory, leaf]
    assert walked(blocks, root, b"a", b"0", scope=Scope.BLOCK) == [root]
    for wrong in ((b"a", b"9"), (b"x",), (b"a", b"1", b"0"), (b"a", b"-1"), (b"text", b"0")):
        with pytest.raises(NoSuchField):
            walked(blocks, root, *wrong)


def test_names_below_files_and_leaves_are_refused_and_plain_links_have_theirs() -> None:
    blocks = MemoryBlocks()
    leaf = put_raw(blocks, b"leaf")
    plain = put_node(blocks, (PBLink(leaf, b"l"),))
    other = put_node(blocks, (PBLink(leaf, b"l"),), b"not UnixFS")
    assert walked(blocks, plain, b"l") == [plain, leaf]
    assert walked(blocks, other, b"l") == [other, leaf]
    for cid in (leaf, put_file(blocks, [(leaf, 4)])):
        with pytest.raises(NotUnixFs):
            walked(blocks, cid, b"l")


def test_a_path_that_is_not_here_is_an_error_even_where_missing_blocks_are_skipped() -> None:
    blocks = CountingBlocks()
    inner = put_directory(blocks, [(b"f", put_raw(blocks, b"f"))])
    root = put_directory(blocks, [(b"d", inner)])
    blocks.forget(inner)
    with pytest.raises(BlockNotFound):
        list(Traversal(blocks, (Request(root, (b"d", b"f")),), Rules(skip_missing=True)).walk())


def test_a_shard_inside_of_itself_twice_is_an_error() -> None:
    blocks = MemoryBlocks()
    inner = put_shard(blocks, {3: (b"name", put_raw(blocks, b"x"))})
    root = put_shard(blocks, {1: (b"", inner), 2: (b"", inner)})
    with pytest.raises(Malformed, match="in a directory twice"):
        walked(blocks, root, scope=Scope.ENTITY)


@given(PROFILES, st.binary(min_size=1, max_size=200), st.data())
def test_a_damaged_file_gives_blocks_or_a_car_error(
    profile: Profile, data: bytes, draw: st.DataObject
) -> None:
    blocks = MemoryBlocks()
    root = bytearray(blocks.get(file_of(profile, data, blocks)))
    root[draw.draw(st.integers(0, len(root) - 1))] ^= draw.draw(st.integers(1, 255))
    wanted = draw.draw(st.none() | st.builds(ByteRange, BOUNDS, st.none() | BOUNDS))
    try:
        assert walked(blocks, put(blocks, bytes(root)), scope=Scope.ENTITY, entity_bytes=wanted)
    except CarError:
        pass


def test_the_terminal_block_may_be_an_identity_cid() -> None:
    blocks = MemoryBlocks()
    inline = Cid.identity(b"inline", RAW)
    root = put_directory(blocks, [(b"i", inline)])
    assert walked(blocks, root, b"i") == [root]
    rules = Rules(identity=True)
    assert [visit.cid for visit in Traversal(blocks, (Request(root, (b"i",)),), rules).walk()] == [
        root,
        inline,
    ]
