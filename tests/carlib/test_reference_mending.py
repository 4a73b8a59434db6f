"""Imports whose source moved, was edited or is to be given up: linked anew, repaired, frozen, and never made worse."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carlib.cid import Cid
from carlib.extract import extract
from carlib.limits import MIB
from carlib.references import BrokenReference, ReferenceBlockstore, Status
from carlib.references.checking import Check, check_import
from carlib.references.freezing import Frozen, freeze
from carlib.references.packing import pack_references
from carlib.references.relinking import NotTheSame, relink
from carlib.references.repairing import Repair, repair
from carlib.unixfs.profile import CARFS, Profile
from carlib.verify import verify
from tests.carlib.keystream import keystream
from tests.fixtures import fixture

LARGE = keystream("large", 4 * MIB + 44)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "large").write_bytes(LARGE)
    (tmp_path / "tree" / "deep" / "copy").write_bytes(b"small")
    (tmp_path / "tree" / "deep" / "small").write_bytes(b"small")
    (tmp_path / "tree" / "empty").touch()
    pack_references(tmp_path / "tree", tmp_path / "ref.car", folder=tmp_path)
    shutil.copytree(tmp_path / "tree", tmp_path / "expected")
    return tmp_path / "tree"


def opened(tree: Path) -> ReferenceBlockstore:
    return ReferenceBlockstore.open(tree.parent / "ref.car", tree.parent)


def checked(tree: Path, folder: Path | None = None) -> Check:
    return check_import(tree.parent / "ref.car", folder or tree.parent, deep=True)


def is_whole(tree: Path, folder: Path | None = None) -> bool:
    """Whether everything comes out as it was when it was packed."""
    out, expected = tree.parent / "out", tree.parent / "expected"
    shutil.rmtree(out, ignore_errors=True)
    with ReferenceBlockstore.open(tree.parent / "ref.car", folder or tree.parent) as store:
        extract(store, store.roots[0], out)
    names = [path.relative_to(expected) for path in expected.rglob("*") if path.is_file()]
    return all((out / name).read_bytes() == (expected / name).read_bytes() for name in names)


# -- relink


def relinked(tree: Path, new: Path, **options: object) -> int:
    with opened(tree) as store:
        return relink(store, tree.parent / "ref.car", tree, new, **options)  # type: ignore[arg-type]  # as relink takes


def test_a_moved_source_is_found_at_its_new_place(tree: Path) -> None:
    new = tree.rename(tree.parent / "moved")
    assert checked(tree).is_stale
    assert relinked(tree, new) == 4
    assert (checked(tree).is_good, is_whole(tree)) == (True, True)


def test_a_copied_source_without_its_times_is_read_and_found_the_same(tree: Path) -> None:
    new = tree.parent / "elsewhere" / "copy"
    shutil.copytree(tree, new, copy_function=shutil.copyfile)
    shutil.rmtree(tree)
    assert relinked(tree, new) == 4
    assert (checked(tree).is_good, is_whole(tree)) == (True, True)


def test_references_may_be_below_another_folder_from_then_on(tree: Path) -> None:
    (tree.parent / "sub").mkdir()
    tree.rename(tree.parent / "sub" / "tree")
    relinked(tree, tree.parent / "sub" / "tree", folder=tree.parent / "sub")
    assert is_whole(tree, tree.parent / "sub")


def other_length(path: Path) -> None:
    os.truncate(path, 4 * MIB)


def other_bytes(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"!")


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("harm", "status"),
    [(other_length, Status.CHANGED), (other_bytes, Status.CHANGED), (gone, Status.NO_FILE)],
)
def test_a_source_that_is_not_the_same_is_refused_and_nothing_changes(
    tree: Path, harm: Callable[[Path], None], status: Status
) -> None:
    before = (tree.parent / "ref.car").read_bytes()
    new = tree.rename(tree.parent / "moved")
    harm(new / "large")
    with pytest.raises(NotTheSame) as caught:
        relinked(tree, new)
    assert caught.value.files == ((b"moved/large", status),)
    assert (tree.parent / "ref.car").read_bytes() == before


def test_a_forged_fingerprint_is_seen_through_by_a_deep_relink_alone(tree: Path) -> None:
    new = tree.rename(tree.parent / "moved")
    mtime = (new / "large").stat().st_mtime_ns
    other_bytes(new / "large")
    os.utime(new / "large", ns=(mtime, mtime))
    with pytest.raises(NotTheSame):
        relinked(tree, new, deep=True)
    assert relinked(tree, new) == 4


def test_what_does_not_concern_the_import_is_the_callers_mistake(tree: Path) -> None:
    with opened(tree) as store, pytest.raises(ValueError, match="nothing of the import"):
        relink(store, tree.parent / "ref.car", tree.parent / "other", tree)
    with pytest.raises(ValueError, match="is not below"):
        relinked(tree, Path("/elsewhere"))


def test_an_import_of_lotus_becomes_one_of_ours(tmp_path: Path) -> None:
    """Nothing was recorded of its file, so that is read whatever it looks like."""
    shutil.copy(fixture("derived/ref-car/refcar-sha256-keys.car"), tmp_path / "ref.car")
    (tmp_path / "input").write_bytes(keystream("ref-car", 2_097_229))
    with ReferenceBlockstore.open(tmp_path / "ref.car", tmp_path) as store:
        root = store.roots[0]
        assert relink(store, tmp_path / "ref.car", tmp_path / "srv/data/input.bin", tmp_path / "input") == 1
    assert checked(tmp_path / "input").is_good
    assert verify(tmp_path / "ref.car").good
    with ReferenceBlockstore.open(tmp_path / "ref.car", tmp_path) as store:
        assert extract(store, root, tmp_path / "out").is_complete
    assert (tmp_path / "out").read_bytes() == (tmp_path / "input").read_bytes()


# -- repair


def repaired(tree: Path, **options: object) -> Repair:
    with opened(tree) as store:
        return repair(store, tree.parent / "ref.car", **options)  # type: ignore[arg-type]  # as repair takes


def test_nothing_is_written_where_nothing_is_to_be_repaired(tree: Path) -> None:
    before = (tree.parent / "ref.car").stat().st_ino
    assert repaired(tree) == Repair(0, (), 0, 0, False)
    assert (tree.parent / "ref.car").stat().st_ino == before


def test_a_touched_or_appended_file_is_good_again(tree: Path) -> None:
    (tree / "deep" / "copy").touch()
    with (tree / "large").open("ab") as file:
        file.write(b"more")
    assert repaired(tree) == Repair(0, (), 0, 2, True)
    assert (checked(tree).is_good, is_whole(tree)) == (True, True)


@pytest.mark.parametrize("put_in", [b"!", b"!" * MIB, b"!" * 70_001])
def test_blocks_that_moved_by_what_was_put_in_before_them_are_found(tree: Path, put_in: bytes) -> None:
    (tree / "large").write_bytes(put_in + LARGE)
    assert repaired(tree) == Repair(5, (), 0, 1, True)
    assert (checked(tree).is_good, is_whole(tree)) == (True, True)


def test_blocks_that_are_gone_are_told_and_the_import_stays_stale(tree: Path) -> None:
    (tree / "large").write_bytes(LARGE[: MIB + 100] + b"!!!" + LARGE[MIB + 100 :])
    found = repaired(tree)
    assert (found.relinked, found.gone_blocks, [(one.offset, one.cid) for one in found.gone]) == (
        3,
        1,
        [(MIB, Cid.of(LARGE[MIB : 2 * MIB]))],
    )
    found_after = checked(tree)
    assert (found_after.is_stale, found_after.changed_blocks) == (True, 1)


def test_blocks_in_any_order_are_found_by_their_hashes(tree: Path) -> None:
    (tree / "large").write_bytes(
        LARGE[2 * MIB : 3 * MIB] + LARGE[:MIB] + LARGE[MIB : 2 * MIB] + LARGE[3 * MIB :]
    )
    assert repaired(tree).gone_blocks == 0
    assert (checked(tree).is_good, is_whole(tree)) == (True, True)


def test_a_block_that_was_in_two_files_is_found_in_the_other(tree: Path) -> None:
    """Only one of both is referenced."""
    (tree / "deep" / "copy").unlink()
    assert repaired(tree).relinked == 1
    assert (checked(tree).is_good, is_whole(tree)) == (True, True)


def test_a_renamed_file_is_found_where_it_is_asked_for(tree: Path) -> None:
    (tree / "large").rename(tree / "renamed")
    assert repaired(tree).gone_blocks == 5
    assert repaired(tree, also=[tree / "renamed", tree / "large", Path("/etc/passwd")]) == Repair(
        5, (), 0, 0, True
    )
    assert (checked(tree).is_good, is_whole(tree)) == (True, True)


def test_pieces_cut_by_content_are_found_wherever_they_are(tmp_path: Path) -> None:
    profile = CARFS.with_chunker("rabin-16384-32768-65536")
    data = keystream("rabin", MIB)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(data)
    pack_references(tmp_path / "tree", tmp_path / "ref.car", folder=tmp_path, profile=profile)
    edited = data[:300_000] + b"edit" + data[300_000:600_000] + data[600_007:]
    (tmp_path / "tree" / "file").write_bytes(edited)
    before = checked(tmp_path / "tree").changed_blocks
    assert repaired(tmp_path / "tree", profile=profile).gone_blocks <= 4 < before


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["put", "cut", "write"]), st.integers(0, 40), st.binary(min_size=1, max_size=9)
    ),
    max_size=3,
)
SMALL = Profile("small", chunk_size=8)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), EDITS)
def test_a_repair_never_makes_an_import_worse(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, edits: list[tuple[str, int, bytes]]
) -> None:
    """Every block that could be read before can be read after it, and what it says is gone is what cannot."""
    folder = tmp_path_factory.mktemp("repair")
    (folder / "tree").mkdir()
    (folder / "tree" / "file").write_bytes(data)
    pack_references(folder / "tree", folder / "ref.car", folder=folder, profile=SMALL)
    for kind, at, what in edits:
        after = data[at + len(what) :] if kind != "put" else data[at:]
        data = data[:at] + (b"" if kind == "cut" else what) + after
    (folder / "tree" / "file").write_bytes(data)
    before = {block.cid for block in checked(folder / "tree").changed}
    found = repaired(folder / "tree", profile=SMALL)
    after_repair = checked(folder / "tree")
    assert {block.cid for block in found.gone} == {block.cid for block in after_repair.changed} <= before
    assert (after_repair.is_stale, after_repair.damage) == (bool(found.gone), ())


# -- freeze


def copying(source: int, target: int) -> None:
    """What a clone looks like, on a file system that has none."""
    with os.fdopen(os.dup(source), "rb") as file, os.fdopen(os.dup(target), "wb") as out:
        file.seek(0)
        shutil.copyfileobj(file, out)


def frozen(tree: Path, **options: object) -> Frozen:
    with opened(tree) as store:
        return freeze(
            store,
            tree.parent / "ref.car",
            tree.parent / "clones",
            folder=tree.parent,
            **options,  # type: ignore[arg-type]
        )


def test_a_frozen_import_needs_its_source_no_more(tree: Path) -> None:
    assert frozen(tree, clone=copying) == Frozen(2, 6)
    shutil.rmtree(tree)
    assert (checked(tree).is_good, is_whole(tree)) == (True, True)
    assert sorted(path.name for path in tree.parent.iterdir()) == ["clones", "expected", "out", "ref.car"]


def test_where_nothing_can_be_cloned_all_is_copied_and_that_is_said(tree: Path) -> None:
    def unable(_source: int, _target: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    found = frozen(tree, clone=unable)
    assert (found.clones, found.reason) == (0, "the file system cannot clone: Operation not supported")
    shutil.rmtree(tree)
    assert (verify(tree.parent / "ref.car").good, is_whole(tree)) == (True, True)
    assert not (tree.parent / "clones").exists()


@pytest.mark.parametrize("can_clone", [True, False])
def test_an_import_that_changed_is_not_frozen_by_half(tree: Path, can_clone: bool) -> None:
    before = (tree.parent / "ref.car").read_bytes()
    other_bytes(tree / "large")

    def clone(source: int, target: int) -> None:
        if not can_clone:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        copying(source, target)

    with pytest.raises(BrokenReference, match="large"):
        frozen(tree, clone=clone)
    assert (tree.parent / "ref.car").read_bytes() == before
    assert sorted(path.name for path in tree.parent.iterdir()) == ["expected", "ref.car", "tree"]


def test_a_freeze_that_finds_no_room_leaves_nothing(tree: Path) -> None:
    def full(_source: int, _target: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        frozen(tree, clone=full)
    assert sorted(path.name for path in tree.parent.iterdir()) == ["expected", "ref.car", "tree"]


def test_clones_never_replace_what_is_there(tree: Path) -> None:
    (tree.parent / "clones").mkdir()
    with pytest.raises(FileExistsError):
        frozen(tree, clone=copying)


@pytest.fixture(params=["btrfs", "xfs"])
def cloning_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system that can clone, on a loop device; skipped, with the reason, where it cannot be made."""
    make = shutil.which(f"mkfs.{request.param}")
    if os.geteuid() != 0 or make is None:
        pytest.skip(f"needs root and mkfs.{request.param}")
    image, disk = tmp_path / "image", tmp_path / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(400 * MIB)
    subprocess.run([make, "-q", image], check=True, capture_output=True)
    mount = subprocess.run(["mount", "-o", "loop", image, disk], capture_output=True, text=True, check=False)
    if mount.returncode:
        pytest.skip(f"cannot mount {request.param}: {mount.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_clones_take_no_room_and_stay_as_they_were(cloning_disk: Path) -> None:
    source = cloning_disk / "large"
    source.write_bytes(LARGE * 16)
    pack_references(source, cloning_disk / "ref.car", folder=cloning_disk)
    os.sync()
    before = shutil.disk_usage(cloning_disk).used
    with ReferenceBlockstore.open(cloning_disk / "ref.car", cloning_disk) as store:
        found = freeze(store, cloning_disk / "ref.car", cloning_disk / "clones", folder=cloning_disk)
    os.sync()
    assert (found.clones, found.reason) == (1, "")
    assert shutil.disk_usage(cloning_disk).used - before < 16 * MIB
    other_bytes(source)
    source.unlink()
    assert check_import(cloning_disk / "ref.car", cloning_disk, deep=True).is_good
