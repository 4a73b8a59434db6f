"""Exports: announced sizes are exact, the same DAG gives the same bytes, and changes in between are seen."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib import index, indexing
from carlib.blockstore import MemoryBlocks, ReadOnlyBlockstore
from carlib.cid import DAG_CBOR, RAW, Cid
from carlib.container import read_container
from carlib.errors import BlockNotFound, CarError, LimitExceeded
from carlib.export import Export, ExportChanged
from carlib.header import V1Header
from carlib.index import INDEX_SORTED, MULTIHASH_INDEX_SORTED, Index
from carlib.limits import MAX_BLOCK_BYTES
from carlib.section import Sections
from carlib.source import MemorySource
from carlib.traversal import ByteRange, Limits, Request, Rules, Scope, Traversal
from carlib.verify import verify
from tests.carlib.cars import section
from tests.carlib.dags import Dag, dags
from tests.carlib.nodes import put_file, put_raw
from tests.fixtures import fixture

KUBO = "ipfs+kubo/test/sharness/t0054-dag-car-import-export-data/test_dataset_car"
GO_CAR = "ipld+go-car/v2/testdata"
LOTUS_RULES = Rules(identity=True)
"""Filecoin's chain exports have sections of identity CIDs."""


def exported(export: Export) -> bytes:
    return b"".join(export.chunks())


@pytest.mark.parametrize(
    ("shuffled", "original"),
    [
        (f"{KUBO}/lotus_devnet_genesis_shuffled_noroots.car", f"{KUBO}/lotus_devnet_genesis.car"),
        (f"{KUBO}/lotus_devnet_genesis_shuffled_nulroot.car", f"{KUBO}/lotus_devnet_genesis.car"),
        (f"{KUBO}/lotus_testnet_export_128_shuffled_noroots.car", f"{GO_CAR}/sample-v1.car"),
        (f"{KUBO}/lotus_testnet_export_128_shuffled_nulroot.car", f"{GO_CAR}/sample-v1.car"),
        (f"{KUBO}/lotus_testnet_export_256_multiroot.car", f"{KUBO}/lotus_testnet_export_256_multiroot.car"),
    ],
)
def test_shuffled_blocks_are_exported_byte_for_byte_as_they_were(shuffled: str, original: str) -> None:
    want = fixture(original).read_bytes()
    with ReadOnlyBlockstore.open(fixture(original)) as store:
        roots = store.roots
    with ReadOnlyBlockstore.open(fixture(shuffled)) as blocks:
        export = Export.plan(Traversal.of(blocks, *roots, rules=LOTUS_RULES))
        assert export.size == len(want)
        assert exported(export) == want


def test_a_selective_carv2_is_as_large_as_go_cars() -> None:
    """go-car's own test: sizes equal sample-unixfs-v2.car, whose blocks stand in another order."""
    path = fixture(f"{GO_CAR}/sample-unixfs-v2.car")
    with ReadOnlyBlockstore.open(path) as blocks:
        export = Export.plan(Traversal.of(blocks, *blocks.roots), version=2)
        assert (export.size, export.payload_size, export.blocks) == (485, 284, 3)
        ours = exported(export)
    theirs = path.read_bytes()
    assert len(ours) == len(theirs)
    assert ours[:110] == theirs[:110]  # pragma, header, CARv1 header


@pytest.mark.parametrize("codec", [MULTIHASH_INDEX_SORTED, INDEX_SORTED])
@given(dag=dags(), rules=st.builds(Rules, duplicates=st.booleans(), identity=st.booleans()))
def test_the_size_announced_is_the_size_given(codec: int, dag: Dag, rules: Rules) -> None:
    traversal = Traversal.of(dag.blocks, dag.root, rules=rules)
    export = Export.plan(traversal, version=2, index_codec=codec)
    whole = exported(export)
    assert len(whole) == export.size
    container = read_container(MemorySource(whole))
    assert (container.roots, container.data_size) == ((dag.root,), export.payload_size)
    assert container.fully_indexed == export.has_identity
    assert whole[container.data_offset : container.data_end] == exported(Export.plan(traversal))
    found = Index.open(MemorySource(whole), container.index_offset)
    assert (found.codec, len(found), found.end) == (codec, export.blocks, len(whole))


@given(dags(), st.lists(st.integers(0, 11), max_size=3))
def test_a_carv1_is_its_header_and_the_sections_in_order(dag: Dag, picks: list[int]) -> None:
    roots = [dag.cids[pick % len(dag.cids)] for pick in picks]
    export = Export.plan(Traversal.of(dag.blocks, *roots, rules=Rules(whole_cids=True, identity=True)))
    blocks = dag.preorder(*roots) if roots else []
    expected = V1Header(tuple(roots)).encode() + b"".join(section(cid, dag.blocks.get(cid)) for cid in blocks)
    assert exported(export) == expected
    assert (export.size, export.payload_size, export.blocks) == (len(expected), len(expected), len(blocks))


def test_the_index_is_the_one_that_a_scan_makes(tmp_path: Path) -> None:
    with ReadOnlyBlockstore.open(fixture(f"{GO_CAR}/sample-v1.car")) as blocks:
        whole = exported(Export.plan(Traversal.of(blocks, *blocks.roots), version=2))
    path = tmp_path / "export.car"
    path.write_bytes(whole)
    indexing.build(path, tmp_path / "index")
    offset = read_container(MemorySource(whole)).index_offset
    assert whole[offset:] == (tmp_path / "index").read_bytes()
    report = verify(path)
    assert (report.good, report.index_state, report.blocks) == (True, "good", 1043)


def test_a_carv2_may_go_without_an_index() -> None:
    dag = Dag()
    dag.add(RAW, [], b"data")
    export = Export.plan(Traversal.of(dag.blocks, dag.root), version=2, index_codec=None)
    whole = exported(export)
    assert len(whole) == export.size == 51 + export.payload_size
    assert read_container(MemorySource(whole)).index_offset == 0


def test_chunks_are_neither_tiny_nor_copies_of_large_blocks() -> None:
    blocks = MemoryBlocks()
    large = put_raw(blocks, bytes(1 << 20))
    small = [put_raw(blocks, bytes([number, 1])) for number in range(200)]
    root = put_file(blocks, [*((cid, 2) for cid in small), (large, 1 << 20)])
    chunks = list(Export.plan(Traversal.of(blocks, root)).chunks())
    assert len(chunks) == 2
    assert chunks[1] is blocks.get(large)


class _Shrinking(MemoryBlocks):
    """A store that loses a block, or has another one of it, after the first walk."""

    def __init__(self, dag: Dag, gone: Cid) -> None:
        super().__init__()
        for cid in dag.cids:
            self.put(cid, dag.blocks.get(cid))
        self.gone = gone
        self.armed = False

    def get(self, cid: Cid) -> bytes:
        if self.armed and cid == self.gone:
            raise BlockNotFound(cid)
        return super().get(cid)


def test_a_block_lost_between_the_walks_is_an_error_whatever_the_rules_are() -> None:
    dag = Dag()
    leaf = dag.add(RAW, [], b"leaf")
    dag.add(DAG_CBOR, [leaf])
    for skip, error in ((False, BlockNotFound), (True, ExportChanged)):
        store = _Shrinking(dag, leaf)
        export = Export.plan(Traversal.of(store, dag.root, rules=Rules(skip_missing=skip)))
        store.armed = True
        with pytest.raises(error):
            exported(export)


def test_never_more_bytes_come_than_were_announced() -> None:
    dag = Dag()
    leaf = dag.add(RAW, [], b"leaf")
    dag.add(DAG_CBOR, [leaf])
    store = MemoryBlocks()
    store.put(dag.root, dag.blocks.get(dag.root))
    export = Export.plan(Traversal.of(store, dag.root, rules=Rules(skip_missing=True)))
    assert export.missing == (leaf,)
    store.put(leaf, b"leaf")
    given_bytes = 0
    with pytest.raises(ExportChanged, match=f"block {leaf} is more than the {export.size} bytes announced"):
        for chunk in export.chunks():
            given_bytes += len(chunk)
    assert given_bytes <= export.size


def test_other_blocks_of_the_same_size_are_noticed() -> None:
    """The reverse order has the same size; only what was seen in which order tells it."""
    dag = Dag()
    one, two = dag.add(RAW, [], b"1"), dag.add(RAW, [], b"2")

    class Turning:
        roots = (one,)
        turned = False

        def walk(self, *, data: bool = True) -> object:
            order = (two, one) if self.turned else (one, two)
            self.turned = not self.turned
            return Traversal.of(dag.blocks, *order).walk(data=data)

    with pytest.raises(ExportChanged):
        exported(Export.plan(Turning()))  # type: ignore[arg-type]  # a source that lies


def test_limits_and_block_sizes_hold_before_the_first_byte() -> None:
    dag = Dag()
    dag.add(DAG_CBOR, [dag.add(RAW, [], b"leaf")])
    with pytest.raises(LimitExceeded):
        Export.plan(Traversal.of(dag.blocks, dag.root, rules=Rules(limits=Limits(blocks=1))))
    blocks = MemoryBlocks()
    huge = Cid.of(b"")
    blocks.put(huge, bytes(MAX_BLOCK_BYTES + 1))
    with pytest.raises(LimitExceeded, match="block length"):
        Export.plan(Traversal.of(blocks, huge))


def test_a_range_of_a_file_is_exported_with_its_size_known() -> None:
    blocks = MemoryBlocks()
    parts = [put_raw(blocks, bytes([number]) * 10) for number in range(5)]
    root = put_file(blocks, [(part, 10) for part in parts])
    request = Request(root, scope=Scope.ENTITY, entity_bytes=ByteRange(10, 29))
    whole = exported(Export.plan(Traversal(blocks, (request,))))
    source = MemorySource(whole)
    container = read_container(source)
    found = [Cid(cid) for cid, *_ in Sections(source, container.first_section, container.data_end)]
    assert found == [root, *parts[1:3]]


def test_roots_in_the_header_may_be_others_than_those_walked() -> None:
    dag = Dag()
    dag.add(RAW, [], b"data")
    other = Cid.of(b"other")
    whole = exported(Export.plan(Traversal.of(dag.blocks, dag.root), roots=[other]))
    assert read_container(MemorySource(whole)).roots == (other,)
    with pytest.raises(ValueError, match="CAR version 3"):
        Export.plan(Traversal.of(dag.blocks, dag.root), version=3)


def test_an_identity_root_is_a_header_and_nothing_else() -> None:
    """The probe of every gateway: bafkqaaa."""
    empty = Cid.parse("bafkqaaa")
    export = Export.plan(Traversal.of(MemoryBlocks(), empty))
    assert exported(export) == V1Header((empty,)).encode()
    assert export.blocks == 0


@given(dags(), st.sampled_from((INDEX_SORTED, MULTIHASH_INDEX_SORTED)))
def test_an_empty_index_has_its_size_too(dag: Dag, codec: int) -> None:
    out = io.BytesIO()
    empty = Export.plan(Traversal.of(dag.blocks, Cid.parse("bafkqaaa")), version=2, index_codec=codec)
    assert empty.size - 51 - empty.payload_size == index.write(out, codec, [])
    assert len(exported(empty)) == empty.size


def test_errors_of_the_walk_are_car_errors() -> None:
    with pytest.raises(CarError):
        Export.plan(Traversal.of(MemoryBlocks(), Cid.of(b"absent")))
