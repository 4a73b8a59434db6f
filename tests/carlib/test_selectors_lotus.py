"""What Lotus' client makes of data selectors, in its words: roots, blocks, merkle proofs, and what it refuses."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from carlib.blockstore import MemoryBlocks, ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.errors import LimitExceeded, Malformed
from carlib.export import Export
from carlib.selectors import DagSpec, NoSelection, Selection, car_selection, data_selector, unixfs_root
from carlib.traversal import Limits
from tests.carlib.nodes import put_directory, put_file, put_raw
from tests.fixtures import fixture

GENESIS = Cid.parse("bafy2bzacecnamqgqmifpluoeldx7zzglxcljo6oja4vrmtj7432rphldpdmm2")
SELECTED = Cid.parse("bafkqaetgnfwc6mjpon2g64tbm5sxa33xmvza")
"""What Lotus' TestPartialRetrieval finds at 8/1/8/1/0/1/0 of the mainnet genesis: an identity CID."""


def made(blocks: MemoryBlocks) -> tuple[Cid, Cid, list[Cid]]:
    """A directory, a file in it and the file's leaves."""
    leaves = [put_raw(blocks, bytes([number]) * 10) for number in range(3)]
    file = put_file(blocks, [(leaf, 10) for leaf in leaves])
    return put_directory(blocks, [(b"other", put_raw(blocks, b"other")), (b"file", file)]), file, leaves


def blocks_of(selection: Selection) -> list[Cid]:
    return [visit.cid for visit in selection.walk()]


def test_a_path_selects_the_subgraph_below_it() -> None:
    blocks = MemoryBlocks()
    root, file, leaves = made(blocks)
    selection = car_selection(blocks, root, [DagSpec("Links/1/Hash")])
    assert (selection.roots, blocks_of(selection)) == ((file,), [file, *leaves])
    assert unixfs_root(blocks, root, [DagSpec("/Links/1/Hash")]) == file
    assert unixfs_root(blocks, root, []) == root


def test_a_merkle_proof_is_every_block_on_the_way_from_the_root() -> None:
    blocks = MemoryBlocks()
    root, file, leaves = made(blocks)
    selection = car_selection(blocks, root, [DagSpec("Links/1/Hash/Links/2/Hash", merkle_proof=True)])
    assert (selection.roots, blocks_of(selection)) == ((root,), [root, file, leaves[2]])


def test_several_selectors_make_one_car_of_several_roots_with_each_block_once() -> None:
    blocks = MemoryBlocks()
    root, file, leaves = made(blocks)
    specs = [DagSpec("Links/1/Hash/Links/1/Hash"), DagSpec("Links/1/Hash"), DagSpec("Links/0/Hash")]
    selection = car_selection(blocks, root, specs)
    other = put_raw(blocks, b"other")
    assert selection.roots == (leaves[1], file, other)
    assert blocks_of(selection) == [leaves[1], file, leaves[0], leaves[2], other]
    export = Export.plan(selection)
    assert len(b"".join(export.chunks())) == export.size
    with pytest.raises(NoSelection, match=r"^unixfs retrieval requires one root node, got 3$"):
        unixfs_root(blocks, root, specs)


def test_no_selectors_select_everything() -> None:
    blocks = MemoryBlocks()
    root, file, leaves = made(blocks)
    selection = car_selection(blocks, root, [])
    assert (selection.roots, blocks_of(selection)) == (
        (root,),
        [root, put_raw(blocks, b"other"), file, *leaves],
    )


def test_a_path_inside_of_a_block_can_be_a_car_but_no_file() -> None:
    blocks = MemoryBlocks()
    root, file, _ = made(blocks)
    assert car_selection(blocks, root, [DagSpec("Links/1/Hash/Links")]).roots == (file,)
    with pytest.raises(NoSelection) as caught:
        unixfs_root(blocks, root, [DagSpec("Links/1/Hash/Links")])
    assert str(caught.value) == (
        "parsing dag spec: error while locating partial retrieval sub-root: unsupported selection path "
        "'Links/1/Hash/Links' does not correspond to a block boundary (a.k.a. CID link)"
    )


def test_a_path_to_nothing_says_within_what() -> None:
    blocks = MemoryBlocks()
    root, _, _ = made(blocks)
    for path in ("42", "Links/9/Hash", "Links/0/Hash/0"):
        with pytest.raises(
            NoSelection, match=rf"^parsing dag spec: path selection does not match a node within {root}$"
        ):
            car_selection(blocks, root, [DagSpec(path)])


def test_a_json_selector_is_taken_as_it_is() -> None:
    blocks = MemoryBlocks()
    root, file, _ = made(blocks)
    text = '{"f":{"f>":{"Links":{"i":{"i":1,">":{"f":{"f>":{"Hash":{".":{}}}}}}}}}}'
    selection = car_selection(blocks, root, [DagSpec(text)])
    assert (selection.roots, blocks_of(selection)) == ((file,), [file])
    assert unixfs_root(blocks, root, [DagSpec(text)]) == file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/", "failed to parse text-selector '/': a standalone '/' is not a valid path"),
        ("a*", "failed to parse text-selector 'a*': path string contains invalid character at offset 1"),
        ("äb", "failed to parse text-selector 'äb': path string contains invalid character at offset 0"),
        ("a//b", "failed to parse text-selector 'a//b': invalid empty segment at position 1"),
        ("a/../b", "failed to parse text-selector 'a/../b': unsupported path segment '..' at position 1"),
        (
            '{"x":{}}',
            """failed to parse json-selector '{"x":{}}': """
            'selector spec parse rejected: "x" is not a known member of the selector union',
        ),
    ],
)
def test_what_is_no_selector_is_refused_in_lotus_words(text: str, message: str) -> None:
    with pytest.raises(Malformed) as caught:
        data_selector(text)
    assert str(caught.value) == message
    blocks = MemoryBlocks()
    for plan in (car_selection, unixfs_root):
        with pytest.raises(Malformed) as caught:
            plan(blocks, GENESIS, [DagSpec(text)])
        assert str(caught.value) == f"parsing dag spec: {message}"


def test_limits_hold_while_roots_are_looked_for() -> None:
    blocks = MemoryBlocks()
    root, _, _ = made(blocks)
    with pytest.raises(LimitExceeded):
        car_selection(blocks, root, [DagSpec("Links/1/Hash/Links/0/Hash")], limits=Limits(blocks=2))


@pytest.fixture(scope="module")
def genesis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ReadOnlyBlockstore, Path]]:
    """The mainnet genesis, Lotus' own fixture for partial retrieval."""
    packed = fixture("filecoin-project+lotus/build/genesis/mainnet.car.zst")
    if (zstd := shutil.which("zstd")) is None:
        pytest.skip("no zstd to unpack the genesis with (apt-get install zstd)")
    path = tmp_path_factory.mktemp("genesis") / "mainnet.car"
    subprocess.run([zstd, "-qd", packed, "-o", path], check=True)
    with ReadOnlyBlockstore.open(path) as blocks:
        yield blocks, path


def test_partial_retrieval_of_the_genesis(genesis: tuple[ReadOnlyBlockstore, Path]) -> None:
    """Lotus' TestPartialRetrieval: one block alone, three with the proof, and the data in the last of them."""
    blocks, _ = genesis
    spec = DagSpec("8/1/8/1/0/1/0")
    assert unixfs_root(blocks, GENESIS, [spec]) == SELECTED
    alone = car_selection(blocks, GENESIS, [spec])
    assert (alone.roots, [visit.data for visit in alone.walk()]) == ((SELECTED,), [b"fil/1/storagepower"])
    proof = car_selection(blocks, GENESIS, [DagSpec(spec.data_selector, merkle_proof=True)])
    visits = list(proof.walk())
    assert (proof.roots, len(visits), visits[-1].data) == ((GENESIS,), 3, b"fil/1/storagepower")
    with pytest.raises(NoSelection, match="'8/1/8/1/0/1' does not correspond to a block boundary"):
        unixfs_root(blocks, GENESIS, [DagSpec("8/1/8/1/0/1")])
    with pytest.raises(NoSelection, match="path selection does not match a node within"):
        unixfs_root(blocks, GENESIS, [DagSpec("42")])


def test_the_whole_genesis_is_exported_byte_for_byte(genesis: tuple[ReadOnlyBlockstore, Path]) -> None:
    blocks, path = genesis
    export = Export.plan(car_selection(blocks, GENESIS, []))
    assert export.blocks == 1222
    assert b"".join(export.chunks()) == path.read_bytes()
