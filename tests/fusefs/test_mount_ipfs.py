"""`ipfs/<cid>` over an agent: any block of any shard, and a DAG whose blocks lie in several shards reads as one."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.pack import pack
from tests.fusefs.mounts import Mounted, contents, mounted, names_in, write_car
from tests.fusefs.test_mount_agent import HELLO, WORLD, _destroyed, eventually, register, running_agent

pytestmark = pytest.mark.fuse

BIG_BYTES = 5_000_000


@dataclass
class Split:
    """A tree, and two CARs that have every other block of its DAG each."""

    source: Path
    root: Cid
    cars: tuple[Path, Path]
    whole: Path


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("split")
    source = folder / "tree"
    (source / "deep" / "empty").mkdir(parents=True)
    (source / "big.bin").write_bytes(random.Random(1).randbytes(BIG_BYTES))
    for number in range(300):
        (source / "deep" / f"{number}.txt").write_text(f"file {number}\n" * (number + 1))
    (source / "link").symlink_to("deep/7.txt")
    pack(source, folder / "whole.car")
    with ReadOnlyBlockstore.open(folder / "whole.car") as blocks:
        every = [(cid, blocks.get(cid)) for cid, _ in blocks.cids()]
        root = blocks.roots[0]
    cars = tuple(write_car(folder / f"half{side}.car", every[side::2], []) for side in (0, 1))
    return Split(source, root, (cars[0], cars[1]), folder / "whole.car")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mounted]:
    with running_agent(), mounted(tmp_path / "mnt") as mount:
        yield mount


def registered(mount: Mounted, **cars: Path) -> None:
    """Registers, and waits until the mount has heard of it."""
    for key, car in cars.items():
        register(key, car)
    eventually(lambda: set(cars) <= set(names_in(mount.path / "shards")))


def test_a_tree_whose_blocks_are_split_over_two_shards_reads_as_one(mount: Mounted, split: Split) -> None:
    registered(mount, a=split.cars[0], b=split.cars[1])
    there = mount.path / "ipfs" / str(split.root)
    done = subprocess.run(
        ["diff", "-r", "--no-dereference", str(split.source), str(there)], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"")
    assert (there / "link").readlink() == Path("deep/7.txt")
    assert (there / "deep" / "empty").is_dir()
    with (there / "big.bin").open("rb", buffering=0) as file:
        data = (split.source / "big.bin").read_bytes()
        for place in random.Random(2).sample(range(BIG_BYTES - 5000), 50):
            assert os.pread(file.fileno(), 5000, place) == data[place : place + 5000]


def test_only_names_that_are_asked_for_are_there(mount: Mounted, tmp_path: Path) -> None:
    registered(mount, one=write_car(tmp_path / "one.car", [HELLO], []))
    ipfs = mount.path / "ipfs"
    assert (ipfs / str(HELLO[0])).read_bytes() == HELLO[1]
    assert names_in(ipfs) == []
    assert "ipfs" in names_in(mount.path)
    for name in (str(WORLD[0]), "no CID", "x" * 255):
        with pytest.raises(FileNotFoundError):
            (ipfs / name).stat()
    with pytest.raises(OSError, match="Read-only file system"):
        (ipfs / str(WORLD[0])).mkdir()


def test_any_spelling_of_a_cid_is_the_same_block(mount: Mounted, tmp_path: Path) -> None:
    registered(mount, one=write_car(tmp_path / "one.car", [HELLO], []))
    for name in (
        HELLO[0].encode("base58btc"),
        HELLO[0].encode("base16"),
        str(Cid.v1(0x71, HELLO[0].multihash)),
    ):
        assert (mount.path / "ipfs" / name).read_bytes() == HELLO[1]
    assert (mount.path / "ipfs" / str(Cid.identity(b"itself"))).read_bytes() == b"itself"


def test_a_cid_that_was_not_there_is_there_as_soon_as_a_shard_has_it(mount: Mounted, tmp_path: Path) -> None:
    name = mount.path / "ipfs" / str(WORLD[0])
    assert not name.exists()
    register("later", write_car(tmp_path / "later.car", [WORLD], []))
    eventually(lambda: name.exists() and name.read_bytes() == WORLD[1])


def test_a_shard_that_is_destroyed_takes_its_blocks_away_and_leaves_those_that_others_have(
    mount: Mounted, tmp_path: Path
) -> None:
    registered(
        mount,
        one=write_car(tmp_path / "one.car", [HELLO, WORLD], []),
        two=write_car(tmp_path / "two.car", [HELLO], []),
    )
    hello, world = (mount.path / "ipfs" / str(cid) for cid, _ in (HELLO, WORLD))
    assert (hello.read_bytes(), world.read_bytes()) == (HELLO[1], WORLD[1])
    eventually(lambda: _destroyed("one"))
    eventually(lambda: names_in(mount.path / "shards") == ["two"])
    eventually(lambda: not world.exists())
    assert hello.read_bytes() == HELLO[1]


def test_a_tree_that_lost_a_shard_keeps_what_the_other_has(mount: Mounted, split: Split) -> None:
    registered(mount, a=split.cars[0], b=split.cars[1])
    there = mount.path / "ipfs" / str(split.root)
    assert names_in(there)
    root_is_in_a = _has(split.cars[0], split.root)
    eventually(lambda: _destroyed("b" if root_is_in_a else "a"))
    eventually(lambda: len(names_in(mount.path / "shards")) == 1)
    eventually(there.exists)
    with pytest.raises(OSError, match="Input/output error"):
        (there / "big.bin").read_bytes()
    registered(mount, again=split.cars[1 if root_is_in_a else 0])
    assert contents(there) == contents(split.source)


def _has(car: Path, cid: Cid) -> bool:
    with ReadOnlyBlockstore.open(car) as blocks:
        return blocks.has(cid)


def test_a_corrupt_block_is_taken_from_another_shard_that_has_it_whole(
    mount: Mounted, split: Split, tmp_path: Path
) -> None:
    """And the log says which shard has it corrupt."""
    damaged = tmp_path / "damaged.car"
    data = bytearray(split.whole.read_bytes())
    at = data.index((split.source / "big.bin").read_bytes()[3_000_000:3_000_064])
    data[at] ^= 1
    damaged.write_bytes(data)
    registered(mount, damaged=damaged)
    big = mount.path / "ipfs" / str(split.root) / "big.bin"
    with pytest.raises(OSError, match="Input/output error"):
        big.read_bytes()
    registered(mount, whole=split.whole)
    assert big.read_bytes() == (split.source / "big.bin").read_bytes()
    assert "shard damaged, file ipfs/" in mount.log()


def test_a_shard_whose_file_is_gone_is_passed_over(mount: Mounted, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        registered(
            mount,
            a=write_car(Path(folder) / "gone.car", [HELLO], []),
            b=write_car(tmp_path / "stays.car", [HELLO], []),
        )
    assert (mount.path / "ipfs" / str(HELLO[0])).read_bytes() == HELLO[1]
