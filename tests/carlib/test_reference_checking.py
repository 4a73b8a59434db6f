"""Checking an import: which part of the CAR is damaged, which of the user's files changed, and which blocks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from carlib.ahead import ahead
from carlib.cid import Cid
from carlib.container import Container, read_container
from carlib.limits import MIB
from carlib.references import ReferenceBlockstore, Status, Target
from carlib.references.checking import ChangedBlock, Check, Part, check, check_import
from carlib.references.fingerprints import statuses
from carlib.references.packing import pack_references
from carlib.source import FileSource
from tests.carlib.keystream import keystream
from tests.fixtures import fixture

LARGE = keystream("large", 3 * MIB + 3)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "large").write_bytes(LARGE)
    (tmp_path / "tree" / "deep" / "small").write_bytes(b"small")
    (tmp_path / "tree" / "empty").touch()
    pack_references(tmp_path / "tree", tmp_path / "ref.car", folder=tmp_path)
    return tmp_path / "tree"


def checked(tree: Path, deep: bool = False, *, suspects: bool = True) -> Check:
    found = check_import(tree.parent / "ref.car", tree.parent, deep, suspects=suspects)
    if not found.damage:
        with ReferenceBlockstore.open(tree.parent / "ref.car", tree.parent) as store:
            assert check(store, deep, suspects=suspects) == found
    return found


def write(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    os.utime(path, ns=(0, 7))


def troubles(found: Check) -> dict[bytes, tuple[Status, int]]:
    return {file.target.path: (file.status, file.changed_blocks) for file in found.troubled}


@pytest.mark.parametrize("deep", [False, True])
def test_an_import_that_nobody_touched_is_good(tree: Path, deep: bool) -> None:
    assert checked(tree, deep) == Check((), 3, read_bytes=3 * MIB + 8 if deep else 0)
    assert checked(tree, deep).is_good


def test_exactly_the_blocks_that_changed_are_told(tree: Path) -> None:
    write(tree / "large", MIB + 5, b"!")
    found = checked(tree)
    assert found.changed == (ChangedBlock(b"tree/large", MIB, MIB, Cid.of(LARGE[MIB : 2 * MIB])),)
    assert [(file.status, file.changed_blocks, file.changed_bytes) for file in found.troubled] == [
        (Status.CHANGED, 1, MIB)
    ]
    assert (found.is_stale, found.is_good, found.read_bytes) == (True, False, 3 * MIB + 3)


def test_at_start_nothing_is_read(tree: Path) -> None:
    write(tree / "large", MIB + 5, b"!")
    found = checked(tree, suspects=False)
    assert (troubles(found), found.changed, found.read_bytes) == ({b"tree/large": (Status.CHANGED, 0)}, (), 0)


def test_a_file_that_was_only_touched_is_found_well_again(tree: Path) -> None:
    (tree / "large").touch()
    (tree / "deep" / "small").write_bytes(b"small")
    found = checked(tree)
    assert troubles(found) == {b"tree/deep/small": (Status.OK, 0), b"tree/large": (Status.OK, 0)}
    assert found.is_good


def test_a_file_that_was_appended_to_has_all_its_blocks_but_changed(tree: Path) -> None:
    with (tree / "large").open("ab") as file:
        file.write(b"more")
    assert troubles(checked(tree)) == {b"tree/large": (Status.CHANGED, 0)}


def test_files_that_are_gone_or_short_or_no_files(tree: Path) -> None:
    os.truncate(tree / "large", MIB + 1)
    (tree / "deep" / "small").unlink()
    (tree / "empty").unlink()
    os.mkfifo(tree / "empty")
    found = checked(tree)
    assert troubles(found) == {
        b"tree/deep/small": (Status.NO_FILE, 1),
        b"tree/empty": (Status.ERROR, 0),
        b"tree/large": (Status.CHANGED, 3),
    }
    assert [(block.path, block.offset) for block in found.changed] == [
        (b"tree/deep/small", 0),
        (b"tree/large", MIB),
        (b"tree/large", 2 * MIB),
        (b"tree/large", 3 * MIB),
    ]


def test_rot_under_an_unchanged_fingerprint_is_found_by_a_deep_check_alone(tree: Path) -> None:
    before = (tree / "large").stat()
    write(tree / "large", 0, b"!")
    os.utime(tree / "large", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert checked(tree).is_good
    assert troubles(checked(tree, deep=True)) == {b"tree/large": (Status.CHANGED, 1)}


def in_header(container: Container) -> int:
    return container.data_offset + 1


def in_table(container: Container) -> int:
    return container.data_end + 100


def in_magic(container: Container) -> int:
    return container.data_end


def in_index(container: Container) -> int:
    return container.index_offset


def in_a_block(container: Container) -> int:
    return container.data_end - 1


@pytest.mark.parametrize(
    ("place", "part", "deep"),
    [
        (in_header, Part.HEADER, False),
        (in_table, Part.TABLE, False),
        (in_magic, Part.TABLE, False),
        (in_index, Part.INDEX, False),
        (in_a_block, Part.BLOCKS, True),
    ],
)
def test_of_a_damaged_import_the_part_is_told(
    tree: Path, place: Callable[[Container], int], part: Part, deep: bool
) -> None:
    path = tree.parent / "ref.car"
    with FileSource(path) as source:
        at = place(read_container(source))
    data = bytearray(path.read_bytes())
    data[at] ^= 0x81
    path.write_bytes(data)
    found = checked(tree, deep)
    assert (found.damage[0].part, found.is_good) == (part, False)


def test_every_flipped_bit_of_table_and_index_heads_is_noticed_or_harmless(tree: Path) -> None:
    """What is not noticed by a quick look changes no byte of what is read."""
    path = tree.parent / "ref.car"
    with FileSource(path) as source:
        container = read_container(source)
    data = path.read_bytes()
    for at in range(container.data_end, container.index_offset, 7):
        path.write_bytes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])
        assert checked(tree).damage[0].part is Part.TABLE


@pytest.mark.parametrize("cut", [0, 5, 30, 60, 200, -1])
def test_a_cut_import_is_damaged(tree: Path, cut: int) -> None:
    path = tree.parent / "ref.car"
    path.write_bytes(path.read_bytes()[:cut])
    assert checked(tree).damage


def test_lotus_imports_are_checked_too(tmp_path: Path) -> None:
    """Nothing was recorded of the file, so it is read."""
    car = fixture("derived/ref-car/refcar-sha256-keys.car")
    shutil.copy(car, tmp_path / "ref.car")
    found = check_import(tmp_path / "ref.car", tmp_path)
    assert {file.status for file in found.troubled} == {Status.NO_FILE}
    (tmp_path / "srv/data").mkdir(parents=True)
    (tmp_path / "srv/data/input.bin").write_bytes(bytes(5 * MIB))
    found = check_import(tmp_path / "ref.car", tmp_path, deep=True)
    assert ({file.status for file in found.troubled}, found.damage) == ({Status.CHANGED}, ())
    assert found.changed_blocks == 2


def test_statuses_of_many_files_are_in_their_order(tmp_path: Path) -> None:
    targets = []
    for number in range(3000):
        folder = tmp_path / str(number // 100)
        folder.mkdir(exist_ok=True)
        (folder / str(number)).touch()
        targets.append(Target.of(b"%d/%d" % (number // 100, number), (folder / str(number)).stat()))
    (tmp_path / "3" / "333").unlink()
    (tmp_path / "4" / "444").write_bytes(b"x")
    (tmp_path / "out").symlink_to("..")
    targets += [Target(b"out/x", 1, 2, 3), Target(b"..", 1, 2, 3), Target(b"5/\0", 1, 2, 3)]
    found = list(statuses(tmp_path, targets))
    assert {number: status for number, status in enumerate(found) if status is not Status.OK} == {
        333: Status.NO_FILE,
        444: Status.CHANGED,
        3000: Status.OTHER,
        3001: Status.OTHER,
        3002: Status.OTHER,
    }


def test_work_ahead_comes_in_order_and_its_errors_in_their_place() -> None:
    def work(number: int) -> float:
        return 1 / (5 - number)

    results = ahead(work, range(10), threads=3)
    assert [next(results) for _ in range(5)] == [1 / (5 - number) for number in range(5)]
    with pytest.raises(ZeroDivisionError):
        next(results)
