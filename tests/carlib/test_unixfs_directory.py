"""Directories, plain and sharded: listings and look-ups agree, and a bad trie cannot keep anybody busy."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib.blockstore import MemoryBlocks, ReadOnlyBlockstore
from carlib.cid import DAG_PB, Cid
from carlib.dagpb import PBLink
from carlib.errors import BlockNotFound, CarError, LimitExceeded, Malformed, NotUnixFs
from carlib.unixfs import Directory, Entry, hamt
from carlib.unixfs.builder import Builder
from carlib.unixfs.hashing import Built
from carlib.unixfs.node import Data, DataType
from carlib.unixfs.profile import CARFS
from tests.carlib.nodes import CountingBlocks, put_directory, put_node, put_raw, put_shard
from tests.fixtures import fixture

NAMES = st.sets(st.binary(min_size=1, max_size=20), max_size=60)
LEAF = Cid.of(b"x")


def slot_of(name: bytes, level: int = 0) -> int:
    return hamt.name_hash(name) >> (56 - 8 * level) & 0xFF


def built(names: set[bytes], blocks: MemoryBlocks, fanout: int = 256, threshold: int = 0) -> Cid:
    builder = Builder(blocks, dataclasses.replace(CARFS, hamt_threshold=threshold, hamt_fanout=fanout))
    return builder.directory((name, Built(1, 1, Cid.of(name).raw)) for name in names).cid


@given(NAMES, st.sampled_from(hamt.SHARD_FANOUTS))
def test_what_is_listed_is_what_was_put_and_is_found(names: set[bytes], fanout: int) -> None:
    blocks = MemoryBlocks()
    expected = {Entry(name, Cid.of(name), 1) for name in names}
    for threshold in (0, 1 << 20):
        directory = Directory.open(blocks, built(names, blocks, fanout, threshold))
        assert directory.sharded == (threshold == 0)
        listed = list(directory)
        assert len(listed) == len(names)
        assert set(listed) == expected == {directory.lookup(name) for name in names}
        assert directory.lookup(b"not there, and longer than 20 bytes") is None


@given(NAMES)
def test_a_plain_directory_is_listed_in_the_order_of_its_links(names: set[bytes]) -> None:
    blocks = MemoryBlocks()
    directory = Directory.open(blocks, put_directory(blocks, [(name, LEAF) for name in names]))
    assert [entry.name for entry in directory] == list(names)


@given(NAMES.filter(bool), st.data())
def test_a_damaged_shard_gives_entries_or_a_car_error(names: set[bytes], draw: st.DataObject) -> None:
    blocks = MemoryBlocks()
    root = bytearray(blocks.get(built(names, blocks, 8)))
    root[draw.draw(st.integers(0, len(root) - 1))] ^= draw.draw(st.integers(1, 255))
    cid = Cid.of(bytes(root), DAG_PB)
    blocks.put(cid, bytes(root))
    try:
        directory = Directory.open(blocks, cid)
        listed = list(directory.entries(lambda _error: None))
    except CarError:
        return
    assert all(directory.lookup(entry.name) == entry for entry in listed)


def test_of_two_entries_with_one_name_the_first_counts() -> None:
    blocks = MemoryBlocks()
    other = Cid.of(b"y")
    directory = Directory.open(blocks, put_directory(blocks, [(b"a", LEAF), (b"b", LEAF), (b"a", other)]))
    assert list(directory) == [Entry(b"a", LEAF, 0), Entry(b"b", LEAF, 0)]
    assert directory.lookup(b"a") == Entry(b"a", LEAF, 0)


def test_names_come_as_they_are_stored() -> None:
    blocks = MemoryBlocks()
    names = [b"", b".", b"..", b"a/b", b"nul\0", b"\xff", b"x" * 300]
    directory = Directory.open(blocks, put_directory(blocks, [(name, LEAF) for name in names]))
    assert [entry.name for entry in directory] == names


def test_what_is_no_directory_is_refused() -> None:
    blocks = MemoryBlocks()
    for cid in (put_raw(blocks, b"x"), put_node(blocks), put_node(blocks, (), Data(DataType.FILE).encode())):
        with pytest.raises(NotUnixFs):
            Directory.open(blocks, cid)


def test_a_look_up_reads_only_the_shards_on_its_path() -> None:
    blocks = CountingBlocks()
    names = {b"file-%d" % number for number in range(5000)}
    directory = Directory.open(blocks, built(names, blocks))
    blocks.read.clear()
    assert directory.lookup(b"file-77") is not None
    assert len(blocks.read) <= 2
    blocks.read.clear()
    assert directory.lookup(b"file-77") is not None
    assert blocks.read == []


def test_a_listing_reads_shard_by_shard() -> None:
    blocks = CountingBlocks()
    names = {b"file-%d" % number for number in range(5000)}
    directory = Directory.open(blocks, built(names, blocks))
    blocks.read.clear()
    entries = iter(directory)
    for _ in range(10):
        next(entries)
    assert len(blocks.read) <= 10


def shard_with_missing_children(blocks: CountingBlocks) -> tuple[Cid, set[bytes]]:
    """A directory of which some sub-shards are gone, and the names that still can be listed."""
    names = {b"file-%d" % number for number in range(2000)}
    root = built(names, blocks)
    shard = hamt.Shard.parse(root, blocks.get(root))
    gone = [position for position, name in enumerate(shard.names) if not name][::3]
    for position in gone:
        blocks.forget(Cid(shard.cids[position]))
    slots = {shard.slots[position] for position in gone}
    return root, {name for name in names if slot_of(name) not in slots}


def test_entries_of_missing_shards_are_reported_after_the_rest() -> None:
    blocks = CountingBlocks()
    root, expected = shard_with_missing_children(blocks)
    directory = Directory.open(blocks, root)
    errors: list[CarError] = []
    assert {entry.name for entry in directory.entries(errors.append)} == expected
    assert errors and all(isinstance(error, BlockNotFound) for error in errors)
    listed: list[bytes] = []
    with pytest.raises(BlockNotFound):
        for entry in directory:
            listed.append(entry.name)  # noqa: PERF401  what came before the error counts
    assert set(listed) == expected


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        (Malformed, {"hash_type": None}),
        (Malformed, {"hash_type": 0x12}),
        (Malformed, {"fanout": None}),
        (Malformed, {"fanout": 4}),
        (Malformed, {"fanout": 24}),
        (LimitExceeded, {"fanout": 2048}),
        (LimitExceeded, {"fanout": 2**64 - 1}),
        (Malformed, {"data": b"\1" + bytes(32)}),
        (Malformed, {"data": b"\3"}),
        (Malformed, {"data": None}),
    ],
)
def test_shards_that_break_the_rules(error: type[CarError], changes: dict[str, Any]) -> None:
    blocks = MemoryBlocks()
    with pytest.raises(error):
        Directory.open(blocks, put_shard(blocks, {slot_of(b"a"): (b"a", LEAF)}, **changes))


def test_a_link_name_is_the_slot_in_upper_case_hex_and_the_entry_s_name() -> None:
    blocks = MemoryBlocks()
    data = Data(DataType.HAMT_SHARD, b"\x04", hash_type=hamt.MURMUR3_X64_64, fanout=8).encode()
    for name in (b"", b"1a", b"02a"):
        with pytest.raises(Malformed):
            Directory.open(blocks, put_node(blocks, [PBLink(LEAF, name)], data))


def test_an_entry_in_the_wrong_slot_is_malformed() -> None:
    """Else a listing would show what a look-up cannot find, or show one name twice."""
    blocks = MemoryBlocks()
    with pytest.raises(Malformed, match="does not belong there"):
        Directory.open(blocks, put_shard(blocks, {slot_of(b"a") ^ 1: (b"a", LEAF)}))


def test_a_shard_that_is_there_twice_is_visited_once() -> None:
    """Eight levels of one shard, 256 times each: 2 ** 64 visits if we let it."""
    blocks = CountingBlocks()
    cid = Cid.of(b"missing", DAG_PB)
    for _ in range(8):
        cid = put_shard(blocks, dict.fromkeys(range(256), (b"", cid)))
    errors: list[CarError] = []
    assert list(Directory.open(blocks, cid).entries(errors.append)) == []
    assert len(blocks.read) < 20
    assert len(errors) < 3000


def test_a_trie_deeper_than_the_hash_is_malformed() -> None:
    blocks = MemoryBlocks()
    name = b"a"
    cid = put_shard(blocks, {0: (name, LEAF)})
    for level in range(7, -1, -1):
        cid = put_shard(blocks, {slot_of(name, level): (b"", cid)})
    directory = Directory.open(blocks, cid)
    with pytest.raises(Malformed, match="deeper"):
        directory.lookup(name)
    with pytest.raises(Malformed, match="deeper"):
        list(directory)


def test_an_empty_shard_inside_of_a_directory_is_malformed() -> None:
    blocks = MemoryBlocks()
    root = put_shard(blocks, {1: (b"", put_shard(blocks, {}))})
    with pytest.raises(Malformed, match="empty"):
        list(Directory.open(blocks, root))


def test_two_names_with_one_hash_cannot_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carlib.unixfs.sharding.name_hash", lambda _name: 7)
    with pytest.raises(LimitExceeded):
        built({b"a", b"b"}, MemoryBlocks())


def test_a_name_that_is_there_twice_is_not_built() -> None:
    link = (b"a", Built(1, 1, LEAF.raw))
    with pytest.raises(ValueError, match="twice"):
        Builder(MemoryBlocks()).directory([link, link])


def test_a_sharded_directory_of_kubo_whose_shards_are_filed_under_raw_cids() -> None:
    with ReadOnlyBlockstore.open(
        fixture("ipfs+kubo/test/cli/fixtures/TestGatewayHAMTDirectory.car")
    ) as blocks:
        directory = Directory.open(
            blocks, Cid.parse("bafybeiggvykl7skb2ndlmacg2k5modvudocffxjesexlod2pfvg5yhwrqm")
        )
        names = [entry.name for entry in directory]
        assert len(names) == 10100
        assert {b"%d.png" % number for number in range(1, 10101)} >= set(names)
        assert all(directory.lookup(name) is not None for name in names[::97])


def test_a_path_through_sharded_directories_of_wikipedia() -> None:
    path = "ipld+go-car/cmd/car/testdata/inputs/wikipedia-cryptographic-hash-function.car"
    with ReadOnlyBlockstore.open(fixture(path)) as blocks:
        wiki = Directory.open(blocks, blocks.roots[0]).lookup(b"wiki")
        assert wiki is not None
        article = Directory.open(blocks, wiki.cid).lookup(b"Cryptographic_hash_function")
        assert article is not None
        assert blocks.has(article.cid)
