"""Walks over whole DAGs: first visits in depth-first order, each block once, limits, and what is missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib.blockstore import MemoryBlocks, ReadOnlyBlockstore
from carlib.cid import DAG_CBOR, DAG_PB, RAW, Cid
from carlib.errors import BlockNotFound, HashMismatch, LimitExceeded, Truncated, UnknownCodec
from carlib.traversal import Limits, Request, Rules, Traversal, Visit
from tests.carlib.dags import Dag, dags
from tests.carlib.nodes import CountingBlocks, put
from tests.fixtures import fixture


def cids(traversal: Traversal) -> list[Cid]:
    return [visit.cid for visit in traversal.walk()]


@given(dags())
def test_each_reachable_block_comes_once_in_the_order_of_first_visits(dag: Dag) -> None:
    rules = Rules(whole_cids=True, identity=True)
    assert cids(Traversal.of(dag.blocks, dag.root, rules=rules)) == dag.preorder()


@given(dags())
def test_identity_blocks_are_gone_through_and_not_given(dag: Dag) -> None:
    found = cids(Traversal.of(dag.blocks, dag.root, rules=Rules(whole_cids=True)))
    assert found == [cid for cid in dag.preorder() if not cid.is_identity]


@given(dags(identity=False))
def test_two_cids_of_one_multihash_are_one_block_unless_told_otherwise(dag: Dag) -> None:
    """A multihash may be there as raw and as dag-cbor: it is given once, and gone through for both."""
    expected = {cid.multihash: cid for cid in reversed(dag.preorder())}
    found = cids(Traversal.of(dag.blocks, dag.root))
    assert found == [cid for cid in dag.preorder() if expected[cid.multihash] == cid]


@given(dags())
def test_with_duplicates_a_block_comes_each_time_it_is_reached(dag: Dag) -> None:
    rules = Rules(duplicates=True, identity=True)
    assert cids(Traversal.of(dag.blocks, dag.root, rules=rules)) == dag.every_visit(dag.root)


@given(dags(), st.data())
def test_several_roots_have_common_books(dag: Dag, draw: st.DataObject) -> None:
    roots = draw.draw(st.lists(st.sampled_from(dag.cids), max_size=4))
    rules = Rules(whole_cids=True, identity=True)
    traversal = Traversal.of(dag.blocks, *roots, rules=rules)
    assert cids(traversal) == (dag.preorder(*roots) if roots else [])
    assert traversal.roots == tuple(roots)


@given(dags(), st.integers(0, 12), st.integers(0, 300), st.integers(0, 8), st.booleans())
def test_no_walk_goes_past_its_limits(dag: Dag, blocks: int, size: int, depth: int, duplicates: bool) -> None:
    rules = Rules(duplicates=duplicates, identity=True, limits=Limits(blocks, size, depth))
    walk = Traversal.of(dag.blocks, dag.root, rules=rules).walk()
    visits: list[Visit] = []
    try:
        visits.extend(walk)
    except LimitExceeded:
        assert walk.blocks > blocks or walk.bytes > size or walk.blocks >= depth
    assert len(visits) <= blocks
    assert sum(visit.size for visit in visits) <= size
    assert all(visit.depth <= depth for visit in visits)


@given(dags())
def test_a_walk_for_sizes_is_the_same_walk_and_reads_no_leaf(dag: Dag) -> None:
    reading = CountingBlocks()
    for cid in dag.cids:
        reading.put(cid, dag.blocks.get(cid))
    traversal = Traversal.of(reading, dag.root)
    sizes = [(visit.cid, visit.size) for visit in traversal.walk(data=False)]
    assert {cid.codec for cid in reading.read} <= {DAG_PB, DAG_CBOR}
    whole = list(traversal.walk())
    assert sizes == [(visit.cid, visit.size) for visit in whole]
    assert all(visit.data == dag.blocks.get(visit.cid) and len(visit.data) == visit.size for visit in whole)


@given(dags(identity=False), st.data())
def test_a_missing_block_is_an_error_or_is_named_and_gone_around(dag: Dag, draw: st.DataObject) -> None:
    gone = draw.draw(st.sampled_from(dag.preorder()))
    blocks = MemoryBlocks()
    for cid in dag.cids:
        if cid.multihash != gone.multihash:
            blocks.put(cid, dag.blocks.get(cid))
    with pytest.raises(BlockNotFound):
        list(Traversal.of(blocks, dag.root).walk())
    walk = Traversal.of(blocks, dag.root, rules=Rules(skip_missing=True, whole_cids=True)).walk()
    found = [visit.cid for visit in walk]
    without = Dag(cids=dag.cids, children=dict(dag.children))
    without.children.update((cid.raw, []) for cid in dag.cids if cid.multihash == gone.multihash)
    reached = without.preorder()
    assert found == [cid for cid in reached if cid.multihash != gone.multihash]
    assert list(walk.missing) == [cid for cid in reached if cid.multihash == gone.multihash]


def test_a_chain_of_links_is_no_recursion_of_ours() -> None:
    dag = Dag()
    dag.add(RAW, [], b"end")
    for _ in range(5_000):
        dag.add(DAG_CBOR, [dag.root])
    visits = list(Traversal.of(dag.blocks, dag.root).walk())
    assert [visit.depth for visit in visits] == list(range(5_001))
    with pytest.raises(
        LimitExceeded, match="links followed from the root is 1025, more than the maximum of 1024"
    ):
        list(Traversal.of(dag.blocks, dag.root, rules=Rules(limits=Limits(depth=1024))).walk())


def test_a_dag_with_more_paths_than_atoms_is_walked_in_its_size() -> None:
    dag = Dag()
    dag.add(RAW, [], b"end")
    for _ in range(300):
        dag.add(DAG_PB, [dag.root, dag.root])
    traversal = Traversal.of(dag.blocks, dag.root)
    assert len(list(traversal.walk())) == 301
    limited = Rules(duplicates=True, limits=Limits(blocks=10_000))
    with pytest.raises(LimitExceeded, match="blocks visited is 10001"):
        list(Traversal.of(dag.blocks, dag.root, rules=limited).walk())


def test_damage_is_an_error_where_it_is_met() -> None:
    blocks = MemoryBlocks()
    good, bad = put(blocks, b"good", RAW), Cid.of(b"bad")
    blocks.put(bad, b"other")
    malformed = put(blocks, b"\x82\xd8\x2a", DAG_CBOR)
    assert cids(Traversal.of(blocks, good)) == [good]
    with pytest.raises(HashMismatch):
        cids(Traversal.of(blocks, bad))
    walk = Traversal.of(blocks, malformed).walk()
    assert next(walk).cid == malformed
    with pytest.raises(Truncated, match=f"block {malformed}: offset 3: "):
        next(walk)


def test_unknown_codecs_are_leaves_or_errors_as_asked() -> None:
    dag = Dag()
    dag.add(DAG_CBOR, [dag.add(0x78, [], b"git")])
    assert len(cids(Traversal.of(dag.blocks, dag.root))) == 2
    with pytest.raises(UnknownCodec):
        cids(Traversal.of(dag.blocks, dag.root, rules=Rules(unknown_is_leaf=False)))


def test_names_of_pieces_are_no_links_to_follow() -> None:
    """State trees are full of piece and sector commitments, which no CAR of a chain holds."""
    dag = Dag()
    name = Cid.v1(0xF101, Cid.of(b"piece").multihash)
    root = dag.add(DAG_CBOR, [name])
    assert cids(Traversal.of(dag.blocks, root)) == [root]


SHARED = "ipfs+kubo/test/cli/fixtures/TestDagStat.car"


def test_a_shared_child_comes_in_the_place_of_its_first_visit() -> None:
    with ReadOnlyBlockstore.open(fixture(SHARED)) as blocks:
        once = cids(Traversal.of(blocks, *blocks.roots))
        often = cids(Traversal.of(blocks, *blocks.roots, rules=Rules(duplicates=True)))
    assert len(once) == 4
    assert len(often) == 5
    assert list(dict.fromkeys(often)) == once


def test_a_hashmap_of_dag_cbor_is_walked_whole() -> None:
    path = fixture("ipld+ipld/specs/advanced-data-layouts/hamt/fixture/alice-words/hamt.car")
    with ReadOnlyBlockstore.open(path) as blocks:
        assert len(cids(Traversal.of(blocks, *blocks.roots))) == 36


def test_roots_without_blocks_are_missing() -> None:
    name = "combined_naked_roots_genesis_and_128.car"
    folder = "ipfs+kubo/test/sharness/t0054-dag-car-import-export-data/test_dataset_car"
    with ReadOnlyBlockstore.open(fixture(f"{folder}/{name}")) as blocks:
        walk = Traversal(blocks, tuple(map(Request, blocks.roots)), Rules(skip_missing=True)).walk()
        assert not list(walk)
        assert walk.missing == blocks.roots
