"""Which blocks are reached, which links lead nowhere, what nothing leads to; held against a plain recursive walk."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from carlib import dagcbor
from carlib.cid import DAG_CBOR, RAW, Cid
from carlib.reachability import Dangling, Reach, reach
from tests.carlib.cars import many_blocks, write_car
from tests.carlib.dags import Dag, dags
from tests.fixtures import fixture


@given(dags(), st.data())
def test_it_finds_what_a_plain_walk_finds(dag: Dag, data: st.DataObject) -> None:
    stored = {cid.multihash: cid for cid in dag.cids if not cid.is_identity}
    gone = data.draw(st.sets(st.sampled_from(sorted(stored)))) if stored else set()
    kept = [cid for key, cid in stored.items() if key not in gone]
    met: set[Cid] = set()
    dangling = 0

    def visit(cid: Cid) -> None:
        nonlocal dangling
        if cid.multihash in gone:
            dangling += 1
        elif cid not in met:
            met.add(cid)
            for child in dag.children[cid.raw]:
                visit(child)

    visit(dag.root)
    reached = {cid.multihash for cid in met if not cid.is_identity}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.car"
        write_car(path, [(cid, dag.blocks.get(cid)) for cid in kept], (dag.root,))
        found = reach(path)
    assert (found.reachable, found.unreachable) == (len(reached), len(kept) - len(reached))
    assert bool(found.dangling) == bool(dangling)
    assert found.is_complete == (not dangling)


def test_what_is_amiss_is_named(tmp_path: Path) -> None:
    (_, lost), (kept_cid, kept), (stray, _) = blocks = many_blocks(3)
    absent = blocks[0][0]
    node = dagcbor.encode([kept_cid, absent])
    root = Cid.of(node, DAG_CBOR)
    path = write_car(tmp_path / "x.car", [(root, node), (kept_cid, kept), (stray, blocks[2][1])], (root,))
    assert lost and reach(path) == Reach(
        reachable=2, unreachable=1, dangling=1,
        named_dangling=[Dangling(root, absent)], named_unreachable=[stray],
    )  # fmt: skip


def test_a_block_reached_as_bytes_first_is_followed_as_a_node_later(tmp_path: Path) -> None:
    leaf = Cid.of(b"leaf")
    inner = dagcbor.encode([leaf])
    outer = dagcbor.encode([Cid.of(inner, RAW), Cid.of(inner, DAG_CBOR)])
    root = Cid.of(outer, DAG_CBOR)
    blocks = [(root, outer), (Cid.of(inner, RAW), inner), (leaf, b"leaf")]
    assert reach(write_car(tmp_path / "x.car", blocks, (root,))).reachable == 3


def test_a_corrupt_node_is_not_followed(tmp_path: Path) -> None:
    leaf = Cid.of(b"leaf")
    root = Cid.of(dagcbor.encode([leaf]), DAG_CBOR)
    path = write_car(tmp_path / "x.car", [(root, dagcbor.encode([leaf, 1])), (leaf, b"leaf")], (root,))
    found = reach(path)
    assert (found.unreadable, found.unreachable, found.is_complete) == (1, 1, False)


def test_a_cut_car_is_looked_at_as_far_as_it_is_whole(tmp_path: Path) -> None:
    path = write_car(tmp_path / "x.car", many_blocks(3), (many_blocks(3)[0][0],))
    path.write_bytes(path.read_bytes()[:-1])
    assert (reach(path).reachable, reach(path).unreachable) == (1, 1)


def test_a_sample_with_missing_blocks() -> None:
    found = reach(fixture("ipld+go-car/cmd/car/testdata/inputs/simple-unixfs-missing-blocks.car"))
    assert found.dangling == 3
