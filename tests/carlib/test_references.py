"""Ref-CARs: inner nodes in the CAR, leaves in the user's files, and never a wrong byte."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib import unixfs
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.container import Container, read_container
from carlib.errors import BlockNotFound, CarError, Malformed
from carlib.export import Export
from carlib.extract import extract
from carlib.pack import Preserve, pack
from carlib.references import BrokenReference, Reference, ReferenceBlockstore, Status, Target, Targets
from carlib.references.dense import dense
from carlib.references.lotus import parse_record
from carlib.references.packing import pack_references
from carlib.references.table import ReferenceTable, TableWriter
from carlib.source import FileSource, MemorySource
from carlib.traversal import Traversal
from carlib.unixfs.profile import CARFS, PROFILES, UNIXFS_V0_2015, Symlinks
from carlib.verify import verify
from tests.carlib.cars import HELLO
from tests.fixtures import fixture

MIB = 1 << 20


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with a file of several chunks, a small one, an empty one, a copy and a symlink."""
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "large").write_bytes(b"".join(bytes([number]) * MIB for number in range(3)) + b"end")
    (source / "deep" / "small").write_bytes(b"small")
    (source / "deep" / "copy").write_bytes(b"small")
    (source / "empty").write_bytes(b"")
    (source / "link").symlink_to("large")
    return source


@pytest.fixture
def ref_car(tmp_path: Path, tree: Path) -> Path:
    pack_references(tree, tmp_path / "ref.car", folder=tmp_path)
    return tmp_path / "ref.car"


def test_the_root_is_that_of_a_dense_car_and_everything_reads_back(
    tmp_path: Path, tree: Path, ref_car: Path
) -> None:
    dense = pack(tree, tmp_path / "dense.car")
    assert ref_car.stat().st_size < 10_000 < (tmp_path / "dense.car").stat().st_size
    with ReferenceBlockstore.open(ref_car, tmp_path) as store:
        assert store.roots == (dense.root,)
        report = extract(store, dense.root, tmp_path / "out")
        with ReadOnlyBlockstore.open(tmp_path / "dense.car") as full:
            for cid, at in full.cids():
                assert (store.has(cid), store.size(cid), store.get(cid)) == (True, at.size, full.get(cid))
    assert report.is_complete
    comparison = shutil.which("diff")
    assert comparison is not None
    assert (
        os.spawnv(os.P_WAIT, comparison, ["diff", "-r", "--no-dereference", str(tree), str(tmp_path / "out")])
        == 0
    )


def test_a_dense_car_is_what_an_export_of_the_data_gives(tmp_path: Path, tree: Path, ref_car: Path) -> None:
    """Lotus exported such an import with the references in it (C-3)."""
    root = pack(tree, tmp_path / "packed.car").root
    with ReferenceBlockstore.open(ref_car, tmp_path) as store:
        written = dense(store, tmp_path / "dense.car")
    with ReadOnlyBlockstore.open(tmp_path / "packed.car") as store:
        export = Export.plan(Traversal.of(store, root), version=2)
        expected = b"".join(export.chunks())
    assert (tmp_path / "dense.car").read_bytes() == expected
    assert (verify(tmp_path / "dense.car").good, written) == (True, export.blocks)


def test_a_dense_car_with_a_hole_is_not_written(tmp_path: Path, tree: Path, ref_car: Path) -> None:
    (tree / "large").unlink()
    with ReferenceBlockstore.open(ref_car, tmp_path) as store, pytest.raises(BrokenReference):
        dense(store, tmp_path / "dense.car")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "ref.car"}


def test_small_files_with_attributes_are_whole_in_the_car_and_shift_no_reference(
    tmp_path: Path, tree: Path
) -> None:
    (tree / "z").write_bytes(b"last" * MIB)
    dense = pack(tree, tmp_path / "dense.car", preserve=Preserve.ALL)
    report = pack_references(tree, tmp_path / "ref.car", folder=tmp_path, preserve=Preserve.ALL)
    assert report.root == dense.root
    with ReferenceBlockstore.open(tmp_path / "ref.car", tmp_path) as store:
        assert extract(store, dense.root, tmp_path / "out").is_complete
    for path in ("large", "deep/small", "z"):
        assert (tmp_path / "out" / path).read_bytes() == (tree / path).read_bytes()


def test_a_followed_symlink_that_leads_out_of_the_folder_is_refused(tmp_path: Path, tree: Path) -> None:
    (tmp_path / "outside").write_bytes(b"outside")
    (tree / "out").symlink_to(tmp_path / "outside")
    profile = dataclasses.replace(CARFS, symlinks=Symlinks.FOLLOW)
    with pytest.raises(ValueError, match="outside is not below"):
        pack_references(tree, tmp_path / "ref.car", folder=tree, profile=profile)
    assert pack_references(tree, tmp_path / "ref.car", folder=tmp_path, profile=profile).symlinks == 0


@pytest.mark.parametrize("name", ["lotus", "ipfs-car"])
def test_references_by_other_profiles(tmp_path: Path, tree: Path, name: str) -> None:
    report = pack_references(tree, tmp_path / "ref.car", folder=tmp_path, profile=PROFILES[name])
    assert report.root == pack(tree, tmp_path / "dense.car", profile=PROFILES[name]).root
    with ReferenceBlockstore.open(tmp_path / "ref.car", tmp_path) as store:
        assert extract(store, report.root, tmp_path / "out").is_complete


def test_standard_readers_see_a_whole_valid_car(tmp_path: Path, ref_car: Path) -> None:
    report = verify(ref_car)
    assert (report.good, report.index_state, report.missing_roots) == (True, "good", [])
    with ReadOnlyBlockstore.open(ref_car) as store, pytest.raises(BlockNotFound):
        store.get(Cid.of(b"small"))


def test_of_a_changed_file_exactly_the_changed_blocks_fail(tmp_path: Path, tree: Path, ref_car: Path) -> None:
    with (tree / "large").open("r+b") as file:
        file.seek(MIB + 7)
        file.write(b"!")
    with ReferenceBlockstore.open(ref_car, tmp_path) as store:
        found = unixfs.resolve(store, store.roots[0], [b"large"])
        large = unixfs.File.open(store, found)
        assert large.read(0, MIB) == bytes(MIB)
        assert large.read(2 * MIB, 10) == b"\2" * 10
        with pytest.raises(BrokenReference) as caught:
            large.read(MIB, 1)
        assert (caught.value.status, caught.value.offset, "large" in str(caught.value)) == (
            Status.CHANGED,
            MIB,
            True,
        )
        table = store.references
        assert isinstance(table, ReferenceTable)
        targets = Targets(tmp_path)
        assert {file.path: targets.status(file) for file in table.files} == {
            b"source/deep/copy": Status.OK,
            b"source/deep/small": Status.OK,
            b"source/empty": Status.OK,
            b"source/large": Status.CHANGED,
        }


def test_a_file_that_is_put_back_by_another_of_its_name_is_read_again(
    tmp_path: Path, tree: Path, ref_car: Path
) -> None:
    shutil.copy(tree / "large", tmp_path / "backup")
    with ReferenceBlockstore.open(ref_car, tmp_path) as store:
        with (tree / "large").open("r+b") as file:
            file.write(b"!")
        with pytest.raises(BrokenReference):
            store.get(Cid.of(bytes(MIB)))
        store.get(Cid.of(b"\1" * MIB))
        (tmp_path / "backup").replace(tree / "large")
        assert store.get(Cid.of(bytes(MIB))) == bytes(MIB)


def test_a_file_cut_short_or_gone_is_said(tmp_path: Path, tree: Path, ref_car: Path) -> None:
    os.truncate(tree / "large", MIB)
    (tree / "deep" / "copy").unlink()
    (tree / "deep" / "small").unlink()
    with ReferenceBlockstore.open(ref_car, tmp_path) as store:
        for cid, status in ((Cid.of(b"\1" * MIB), Status.CHANGED), (Cid.of(b"small"), Status.NO_FILE)):
            with pytest.raises(BrokenReference) as caught:
                store.get(cid)
            assert caught.value.status == status
        assert store.get(Cid.of(bytes(MIB))) == bytes(MIB)


@pytest.mark.parametrize(
    "path", [b"../secret", b"/etc/passwd", b"a/../../secret", b"out/secret", b"nul\0byte"]
)
def test_references_never_lead_out_of_the_folder(tmp_path: Path, path: bytes) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "out").symlink_to("..")
    targets = Targets(tmp_path / "inside")
    with pytest.raises(BrokenReference) as caught:
        targets.read(Reference(Target(path), 0, 6))
    assert (caught.value.status, targets.status(Target(path))) == (Status.OTHER, Status.OTHER)


@pytest.mark.parametrize("offset", [(1 << 63) - 1, (1 << 64) - 1])
def test_a_reference_past_the_end_of_any_file_is_broken(tmp_path: Path, offset: int) -> None:
    (tmp_path / "a").write_bytes(b"a")
    with pytest.raises(BrokenReference):
        Targets(tmp_path).read(Reference(Target(b"a"), offset, 1))


def test_many_files_are_read_with_few_descriptors(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / str(number)).write_bytes(b"%d" % number)
    targets, before = Targets(tmp_path), len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        for number in range(200):
            data = b"%d" % number
            assert targets.read(Reference(Target(data), 0, len(data))) == data
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 64
    targets.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_wrapped_leaves_lie_in_no_file(tmp_path: Path, tree: Path) -> None:
    with pytest.raises(ValueError, match="wraps leaves"):
        pack_references(tree, tmp_path / "ref.car", profile=UNIXFS_V0_2015)
    with pytest.raises(ValueError, match="is not below"):
        pack_references(tree, tmp_path / "ref.car", folder=tree / "deep")
    assert not (tmp_path / "ref.car").exists()


def test_a_single_file_is_a_root_that_is_all_reference(tmp_path: Path, tree: Path) -> None:
    report = pack_references(tree / "deep" / "small", tmp_path / "ref.car")
    with ReferenceBlockstore.open(tmp_path / "ref.car", Path("/")) as store:
        assert (report.root, store.get(report.root)) == (Cid.of(b"small"), b"small")


@pytest.mark.parametrize("era", ["sha256", "identity"])
@pytest.mark.parametrize("detached", [False, True])
def test_ref_cars_of_lotus_are_read(tmp_path: Path, era: str, detached: bool) -> None:
    """Both eras of its keys; the sample files are reconstructions, as no original is public."""
    from carlib import indexing

    expected = json.loads(fixture("derived/ref-car/refcar.json").read_text())
    car, index = fixture(f"derived/ref-car/refcar-{era}-keys.car"), None
    if detached:
        index = tmp_path / "a.idx"
        indexing.build(car, index, identity=True)
    with ReferenceBlockstore.open(car, tmp_path, index=index) as store:
        references = [store.references.find(Cid.parse(leaf["leaf_cid"])) for leaf in expected["leaves"][:2]]
        assert references == [Reference(Target(b"srv/data/input.bin"), offset, MIB) for offset in (0, MIB)]
        with pytest.raises(BrokenReference) as caught:
            store.get(Cid.parse(expected["leaves"][0]["leaf_cid"]))
        assert caught.value.status == Status.NO_FILE
        (tmp_path / "srv/data").mkdir(parents=True)
        (tmp_path / "srv/data/input.bin").write_bytes(bytes(expected_size(expected)))
        with pytest.raises(BrokenReference) as caught:
            store.get(Cid.parse(expected["leaves"][0]["leaf_cid"]))
        assert caught.value.status == Status.CHANGED
        assert unixfs.File.open(store, store.roots[0]).size == expected_size(expected)


def expected_size(expected: dict[str, Any]) -> int:
    return sum(leaf["size"] for leaf in expected["leaves"])


def table_bytes(tmp_path: Path) -> tuple[bytes, Container]:
    """A table as it stands in a file, and a frame that says where."""
    (tmp_path / "a.car").write_bytes(b"")
    writer = TableWriter(tmp_path)
    writer.add(HELLO, 0, 7, 5)
    writer.add(Cid.of(b"x"), 1, 0, 1)
    writer.add(HELLO, 1, 9, 5)
    with (tmp_path / "table").open("w+b") as out:
        writer.files.extend([Target(b"a", 1, -2, 3), Target(b"b")])
        writer.write(out)
    writer.close()
    return (tmp_path / "table").read_bytes(), Container(2, (), 0, 0, 0)


def test_what_is_said_first_of_a_block_holds(tmp_path: Path) -> None:
    data, container = table_bytes(tmp_path)
    table = ReferenceTable.find_in(MemorySource(data), container)
    assert table is not None
    assert (len(table), table.find(HELLO), table.find(Cid.of(b"absent"))) == (
        2,
        Reference(Target(b"a", 1, -2, 3), 7, 5),
        None,
    )
    assert tuple(table.files) == (table.files[0], table.files[1]) == (Target(b"a", 1, -2, 3), Target(b"b"))


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_a_damaged_table_is_an_error_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, at: int, noise: bytes
) -> None:
    data, container = table_bytes(tmp_path_factory.mktemp("table"))
    for broken in (data[:at], data[:at] + noise + data[at + len(noise) :]):
        try:
            table = ReferenceTable.find_in(MemorySource(broken), container)
            if table is not None:
                table.find(HELLO)
                table.record(0)
                list(table.files)
        except CarError:
            continue


@given(st.binary(max_size=60))
def test_any_bytes_give_a_lotus_record_or_our_error(record: bytes) -> None:
    try:
        parse_record(record)
    except CarError:
        return


def test_a_lotus_record_has_its_fields_in_any_order() -> None:
    record = bytes.fromhex("0a0e646174612f696e7075742e62696e108080800118808040")
    assert parse_record(record) == Reference(Target(b"data/input.bin"), 2 * MIB, MIB)
    assert parse_record(record[16:] + record[:16]) == Reference(Target(b"data/input.bin"), 2 * MIB, MIB)
    with pytest.raises(Malformed, match="unknown field 9"):
        parse_record(record + b"\x48\x01")


def test_other_cars_have_no_table(tmp_path: Path, tree: Path) -> None:
    pack(tree, tmp_path / "dense.car")
    with FileSource(tmp_path / "dense.car") as source:
        assert ReferenceTable.find_in(source, read_container(source)) is None
