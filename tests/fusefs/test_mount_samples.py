"""Every CAR that other implementations wrote, mounted: a valid one reads back whole, an invalid one says why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from carlib import multihash
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.container import read_container
from carlib.source import FileSource
from carlib.verify import verify
from fusefs import mounting
from tests.carlib.cars import HELLO
from tests.carlib.test_verify import INVALID
from tests.fixtures import REPOSITORY, fixture, fixtures
from tests.fusefs.mounts import Mounted, mounted, write_car

pytestmark = pytest.mark.fuse

SAMPLES = fixtures("**/*.car")
DAMAGED = {"badsectionlength.car": 0, "sample-v1-tailing-corrupt-section.car": 1048}
"""Those that are shown as far as they are whole, and how many blocks that is."""
UNREADABLE = {name for name in INVALID if not name.startswith("refcar") and name not in DAMAGED}
"""Those of which nothing can be shown."""


def shard_of(mount: Mounted, car: Path) -> Path:
    return mount.path / car.stem


def test_every_valid_sample_reads_back_to_what_it_holds(tmp_path: Path) -> None:
    """All in one mount: every block by its CID, the CAR as it lies there, and a CARv2 made on the fly."""
    if not SAMPLES:
        fixture("absent")
    cars = []
    for number, sample in enumerate(path for path in SAMPLES if path.name not in INVALID):
        cars.append(tmp_path / f"{number:02}-{sample.name}")
        cars[-1].symlink_to(sample)
    with mounted(tmp_path / "mnt", *cars) as mount:
        assert sorted(os.listdir(mount.path)) == [car.stem for car in cars]  # noqa: PTH208  as a shell would
        for car in cars:
            check_shard(shard_of(mount, car), car, tmp_path / "copy.car")
        assert "Traceback" not in mount.log()


def check_shard(shard: Path, car: Path, copy: Path) -> None:
    with FileSource(car) as source:
        container = read_container(source)
    described = json.loads((shard / "shard.json").read_text())
    report = verify(car)
    assert described["Roots"] == list(map(str, container.roots))
    with ReadOnlyBlockstore.open(car) as store:
        # Where a CARv2's own index serves, its entries are counted: go-car leaves identity CIDs out of it.
        assert described["Blocks"] in (report.blocks, len(store.index))
    with ReadOnlyBlockstore.open(car) as store:
        for cid, _at in store.cids():
            data = (shard / "blocks" / str(cid)).read_bytes()
            multihash.check(cid, data)
    listed = {Cid.parse(name).multihash for name in os.listdir(shard / "blocks")}  # noqa: PTH208
    with ReadOnlyBlockstore.open(car) as store:
        assert listed == {cid.multihash for cid, _at in store.cids()}
    assert (shard / "data.car").read_bytes() == payload(car)
    copy.write_bytes((shard / "data.v2.car").read_bytes())
    made = verify(copy)
    assert (made.good, made.version, made.index_state) == (True, 2, "good")
    assert (made.blocks, made.roots) == (report.blocks, report.roots)


def payload(car: Path) -> bytes:
    with FileSource(car) as source:
        container = read_container(source)
        return source.pread(container.data_offset, container.data_size)


@pytest.mark.parametrize("name", sorted(UNREADABLE))
def test_every_invalid_sample_says_what_is_wrong_and_where(tmp_path: Path, name: str) -> None:
    (car,) = (path for path in SAMPLES if path.name == name) if SAMPLES else [fixture(name)]
    command = [sys.executable, "-m", "fusefs", str(car), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False)
    error, offset = INVALID[name]
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith(f"carfs: {car}: offset {offset}: ")
    assert done.stderr.count("\n") == 1, error


@pytest.mark.parametrize("name", sorted(DAMAGED))
def test_a_damaged_sample_is_shown_as_far_as_it_is_whole_and_says_so(tmp_path: Path, name: str) -> None:
    (car,) = (path for path in SAMPLES if path.name == name) if SAMPLES else [fixture(name)]
    with mounted(tmp_path / "mnt", car) as mount:
        top = mount.path / ".carfs" if (mount.path / ".carfs").exists() else mount.path
        described = json.loads((top / "shard.json").read_text())
        offset = f"{car}: offset {INVALID[name][1]}: "
        assert (described["Blocks"], described["Error"].startswith(offset)) == (DAMAGED[name], True)
        for block in (top / "blocks").iterdir():
            multihash.check(Cid.parse(block.name), block.read_bytes())
        assert offset in mount.log()


def test_a_mount_in_the_background_holds_no_terminal(tmp_path: Path) -> None:
    """Whoever reads what the command prints sees its end, though the mount goes on; indexing leaves nobody behind."""
    car = write_car(tmp_path / "a.car", [(HELLO, b"hello")], [HELLO], version=1)
    (tmp_path / "mnt").mkdir()
    command = [sys.executable, "-m", "fusefs", str(car), str(tmp_path / "mnt")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=True)
        assert (tmp_path / "mnt" / "a").read_bytes() == b"hello"
        assert done.stdout == ""
    finally:
        mounting.unmount(tmp_path / "mnt", lazy=True)


def test_trees_of_other_tools_are_listed_as_they_list_them(tmp_path: Path) -> None:
    """The tree that go-car's own extraction test expects."""
    car = fixture("ipld+go-car/cmd/car/testdata/inputs/simple-unixfs.car")
    with mounted(tmp_path / "mnt", car) as mount:
        files = sorted(str(path.relative_to(mount.path)) for path in mount.path.rglob("*") if path.is_file())
        assert files == [f"{folder}/{name}" for folder, names in TREE.items() for name in names]
        contents = {(mount.path / name).read_text() for name in files}
    assert len(contents) == len(files)


TREE = {
    "a": ("1/A.txt", "2/B.txt", "3/C.txt"),
    "b": ("4/D.txt", "5/E.txt", "6/F.txt"),
    "c": ("7/G.txt", "8/H.txt", "9/I.txt"),
}
