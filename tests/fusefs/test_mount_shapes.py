"""CARs of every shape, and the entries that every shard directory has."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from carlib import dagpb
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import DAG_CBOR, DAG_PB, Cid
from carlib.container import read_container
from carlib.dagpb import PBLink, PBNode
from carlib.source import FileSource
from carlib.unixfs.node import Data, DataType
from fusefs import mounting
from tests.carlib import cars as carlib_cars
from tests.carlib.cars import many_blocks
from tests.fixtures import fixture
from tests.fusefs.mounts import contents, mounted, names_in, write_car

pytestmark = pytest.mark.fuse

HELLO = (Cid.of(b"hello\n"), b"hello\n")
WORLD = (Cid.of(b"world\n"), b"world\n")
CBOR = (Cid.of(b"\xa1aa\x01", DAG_CBOR), b"\xa1aa\x01")
ABSENT = Cid.of(b"not in any CAR")


def directory(*entries: tuple[bytes, Cid]) -> tuple[Cid, bytes]:
    links = tuple(PBLink(cid, name) for name, cid in entries)
    block = dagpb.encode(PBNode(links, Data(DataType.DIRECTORY).encode()))
    return Cid.of(block, DAG_PB), block


def symlink(target: bytes) -> tuple[Cid, bytes]:
    block = dagpb.encode(PBNode((), Data(DataType.SYMLINK, data=target).encode()))
    return Cid.of(block, DAG_PB), block


def test_a_root_that_is_a_file_is_shown_under_the_name_of_the_car(tmp_path: Path) -> None:
    car = write_car(tmp_path / "greeting.car", [HELLO], [HELLO[0]])
    with mounted(tmp_path / "mnt", car) as mount:
        assert contents(mount.path) == {"greeting": b"hello\n"}
        assert (mount.path / ".carfs" / "root").readlink() == Path("roots") / str(HELLO[0])


def test_a_shard_directory_has_an_entry_for_each_view(tmp_path: Path) -> None:
    car = write_car(tmp_path / "a.car", [HELLO, CBOR], [HELLO[0], CBOR[0]], version=1)
    with mounted(tmp_path / "mnt", car) as mount:
        assert sorted(path.name for path in mount.path.iterdir()) == [
            "blocks", "data.car", "data.v2.car", "roots", "shard.json",
        ]  # fmt: skip
        assert contents(mount.path / "roots") == {str(HELLO[0]): HELLO[1], str(CBOR[0]): CBOR[1]}
        assert contents(mount.path / "blocks") == {str(HELLO[0]): HELLO[1], str(CBOR[0]): CBOR[1]}
        assert (mount.path / "data.car").read_bytes() == car.read_bytes()
        assert (mount.path / "blocks" / CBOR[0].encode("base58btc")).read_bytes() == CBOR[1]


def test_a_block_that_is_filed_often_is_listed_once(tmp_path: Path) -> None:
    inline = (Cid.identity(b"in the CID"), b"in the CID")
    blocks = [HELLO, CBOR, HELLO, inline, WORLD, HELLO, inline, *many_blocks(3000), CBOR]
    car = carlib_cars.write_car(tmp_path / "a.car", blocks, (CBOR[0], HELLO[0]))
    with mounted(tmp_path / "mnt", car) as mount:
        assert names_in(mount.path / "blocks") == [
            str(cid) for cid in dict.fromkeys(cid for cid, _ in blocks)
        ]


def test_several_cars_are_a_directory_each(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    first = write_car(tmp_path / "a.car", [HELLO], [HELLO[0]])
    second = write_car(tmp_path / "x" / "a.car", [WORLD], [WORLD[0]])
    with mounted(tmp_path / "mnt", first, second) as mount:
        assert sorted(path.name for path in mount.path.iterdir()) == ["a", "a-2"]
        assert (mount.path / "a" / "root").read_bytes() == b"hello\n"
        assert (mount.path / "a-2" / "root").read_bytes() == b"world\n"


def test_a_missing_root_is_not_listed_but_named(tmp_path: Path) -> None:
    car = write_car(tmp_path / "a.car", [HELLO], [HELLO[0], ABSENT])
    with mounted(tmp_path / "mnt", car) as mount:
        assert names_in(mount.path / "roots") == [str(HELLO[0])]
        with pytest.raises(FileNotFoundError):
            (mount.path / "roots" / str(ABSENT)).stat()
        assert f'"MissingRoots": [\n    "{ABSENT}"\n  ]' in (mount.path / "shard.json").read_text()


def test_no_roots_and_no_blocks_is_a_shard_directory(tmp_path: Path) -> None:
    car = write_car(tmp_path / "a.car", [], [])
    with mounted(tmp_path / "mnt", car) as mount:
        assert (names_in(mount.path / "roots"), names_in(mount.path / "blocks")) == ([], [])


def test_the_joined_carv2_is_what_go_car_reads(tmp_path: Path) -> None:
    car = write_car(tmp_path / "a.car", [HELLO, CBOR], [HELLO[0], CBOR[0]], version=1)
    with mounted(tmp_path / "mnt", car) as mount:
        joined = tmp_path / "joined.car"
        joined.write_bytes((mount.path / "data.v2.car").read_bytes())
    indexed = write_car(tmp_path / "expected.car", [HELLO, CBOR], [HELLO[0], CBOR[0]])
    with FileSource(joined) as source:
        found = read_container(source)
    assert (found.version, found.data_offset, found.fully_indexed) == (2, 51, True)
    assert joined.read_bytes()[51:] == indexed.read_bytes()[51:]
    with ReadOnlyBlockstore.open(joined) as blocks:
        assert blocks.get(CBOR[0]) == CBOR[1]


def test_padding_is_left_out_of_the_joined_carv2(tmp_path: Path) -> None:
    car = write_car(tmp_path / "a.car", [HELLO], [HELLO[0]], version=1)
    whole = car.read_bytes()
    car.write_bytes(whole + bytes(1000))
    with mounted(tmp_path / "mnt", car) as mount:
        control = mount.path / ".carfs"
        assert (control / "data.car").stat().st_size == len(whole) + 1000
        assert (control / "data.v2.car").read_bytes()[51 : 51 + len(whole) + 1] == whole + b"\x81"


def test_names_that_no_file_can_have_are_shown_escaped(tmp_path: Path) -> None:
    names = [b"../up", b"..", b".", b"", b"a/b", b"nul\0", b"%2F", b"fine", b"l" * 300]
    root = directory(*((name, HELLO[0]) for name in names))
    car = write_car(tmp_path / "a.car", [HELLO, root], [root[0]])
    with mounted(tmp_path / "mnt", car) as mount:
        shown = sorted(names_in(mount.path))
        long = next(name for name in shown if len(name) > 250)
        assert shown == sorted(["..%2Fup", "%2E%2E", "%2E", "%", "a%2Fb", "nul%00", "%252F", "fine", long])
        assert {(mount.path / name).read_bytes() for name in shown} == {b"hello\n"}
        assert os.getxattr(mount.path / "a%2Fb", "user.carfs.name") == b"a/b"
        assert "user.carfs.name" not in os.listxattr(mount.path / "fine")


def test_an_entry_without_its_block_is_listed_and_unreadable(tmp_path: Path) -> None:
    root = directory((b"gone", ABSENT), (b"here", HELLO[0]), (b"lost", Cid.v1(DAG_PB, ABSENT.multihash)))
    car = write_car(tmp_path / "a.car", [HELLO, root], [root[0]])
    with mounted(tmp_path / "mnt", car) as mount:
        assert sorted(names_in(mount.path)) == ["gone", "here", "lost"]
        for name in ("gone", "lost"):
            with pytest.raises(OSError) as refused:
                (mount.path / name).stat()
            assert refused.value.errno == errno.EIO
        assert (mount.path / "here").read_bytes() == b"hello\n"
        with pytest.raises(FileNotFoundError):
            (mount.path / ".carfs" / "blocks" / str(ABSENT)).stat()


def test_a_symlink_whose_target_no_path_can_be_is_an_error(tmp_path: Path) -> None:
    bad, good = symlink(b"nul\0inside"), symlink(b"here")
    root = directory((b"bad", bad[0]), (b"good", good[0]), (b"here", HELLO[0]))
    car = write_car(tmp_path / "a.car", [HELLO, bad, good, root], [root[0]])
    with mounted(tmp_path / "mnt", car) as mount:
        assert (mount.path / "good").read_bytes() == b"hello\n"
        with pytest.raises(OSError) as refused:
            (mount.path / "bad").readlink()
        assert refused.value.errno == errno.EIO


def test_mode_and_time_of_unixfs_are_shown(tmp_path: Path) -> None:
    data = Data(DataType.FILE, data=b"#!\n", filesize=3, mode=0o4755, mtime_ns=1_600_000_000_123_456_789)
    block = dagpb.encode(PBNode((), data.encode()))
    script = (Cid.of(block, DAG_PB), block)
    root = directory((b"script", script[0]))
    car = write_car(tmp_path / "a.car", [script, root], [root[0]])
    with mounted(tmp_path / "mnt", car) as mount:
        found = (mount.path / "script").stat()
        assert (found.st_mode, found.st_mtime_ns) == (stat.S_IFREG | 0o4755, 1_600_000_000_123_456_789)
        line = mounting.mounted_at(mount.path)
        assert line is not None
        assert line.kind == "fuse.carfs"


def test_a_directory_may_hold_one_cid_many_times_and_at_many_depths(tmp_path: Path) -> None:
    inner = directory((b"f", HELLO[0]))
    middle = directory((b"x", inner[0]), (b"y", inner[0]))
    root = directory((b"a", middle[0]), (b"b", middle[0]), (b"x", inner[0]))
    car = write_car(tmp_path / "a.car", [HELLO, inner, middle, root], [root[0]])
    with mounted(tmp_path / "mnt", car) as mount:
        files = {name for name, data in contents(mount.path).items() if data == b"hello\n"}
        assert files == {"a/x/f", "a/y/f", "b/x/f", "b/y/f", "x/f"}


def test_an_identity_root_and_identity_entries_are_read_from_their_cids(tmp_path: Path) -> None:
    root = directory((b"inline", Cid.identity(b"in the CID")), (b"none", Cid.identity(b"")))
    car = write_car(tmp_path / "a.car", [root], [root[0]])
    with mounted(tmp_path / "mnt", car) as mount:
        assert contents(mount.path) == {"inline": b"in the CID", "none": b""}


def test_the_first_fixture_of_go_car_mounts(tmp_path: Path) -> None:
    with mounted(tmp_path / "mnt", fixture("ipld+go-car/v2/testdata/sample-unixfs-v2.car")) as mount:
        assert sorted(contents(mount.path)) == ["a", "a/b.txt"]
