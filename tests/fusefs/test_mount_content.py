"""What a mounted CAR shows is what was packed."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import random
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from carlib.pack import pack
from tests.fusefs.mounts import Mounted, contents, mounted

pytestmark = pytest.mark.fuse

MIB = 1 << 20
BIG = random.Random(7).randbytes(5 * MIB + 12345)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with what trees have: empty things, odd names, links, a file of several blocks, many small files."""
    root = tmp_path_factory.mktemp("tree") / "tree"
    (root / "many").mkdir(parents=True)
    (root / "empty").mkdir()
    for number in range(1500):
        (root / "many" / f"file-{number}").write_text(f"{number}\n" * (number % 5))
    (root / "big.bin").write_bytes(BIG)
    (root / "nothing").write_bytes(b"")
    (root / ("n" * 255)).write_text("long name")
    (root / "line\nbreak and ütf").write_text("odd name")
    (root / "100%").write_text("a per cent sign")
    (root / os.fsdecode(b"not-utf8-\xff")).write_text("bytes")
    (root / "link").symlink_to("many/file-1")
    (root / "dangling").symlink_to("/nowhere")
    return root


@pytest.fixture(scope="module")
def mount(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    folder = tmp_path_factory.mktemp("mount")
    pack(source, folder / "tree.car")
    with mounted(folder / "mnt", folder / "tree.car") as mount:
        yield mount


def test_a_mounted_tree_is_the_packed_tree(mount: Mounted, source: Path) -> None:
    assert contents(mount.path) == contents(source)


def test_diff_finds_no_difference(mount: Mounted, source: Path) -> None:
    done = subprocess.run(
        ["diff", "-r", "--no-dereference", source, mount.path], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_sha256sum_of_a_big_file_agrees(mount: Mounted) -> None:
    done = subprocess.run(["sha256sum", mount.path / "big.bin"], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == hashlib.sha256(BIG).hexdigest()


def test_any_range_of_a_big_file_reads_right(mount: Mounted) -> None:
    chance = random.Random(1)
    fd = os.open(mount.path / "big.bin", os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for _ in range(200):
            offset, size = chance.randrange(len(BIG) + 10), chance.choice([1, 100, 4096, 200_000, 2 * MIB])
            assert os.pread(fd, size, offset) == BIG[offset : offset + size]
    finally:
        os.close(fd)


def test_files_are_read_only_and_belong_to_who_mounted(mount: Mounted) -> None:
    found = (mount.path / "big.bin").stat()
    assert (found.st_mode, found.st_uid, found.st_gid) == (stat.S_IFREG | 0o444, os.getuid(), os.getgid())
    assert (found.st_size, found.st_nlink, found.st_blocks) == (len(BIG), 1, -(-len(BIG) // 512))


def test_nothing_can_be_changed(mount: Mounted) -> None:
    attempts: list[Callable[[], object]] = [
        lambda: (mount.path / "new").write_text("x"),
        lambda: (mount.path / "big.bin").unlink(),
        lambda: (mount.path / "empty").rmdir(),
        lambda: (mount.path / "made").mkdir(),
        lambda: (mount.path / "big.bin").rename(mount.path / "moved"),
        lambda: (mount.path / "big.bin").chmod(0o777),
        lambda: os.setxattr(mount.path / "big.bin", "user.x", b"y"),
    ]
    for attempt in attempts:
        with pytest.raises(OSError) as refused:
            attempt()
        assert refused.value.errno == errno.EROFS


def test_what_is_not_there_is_enoent_and_too_long_is_enametoolong(mount: Mounted) -> None:
    with pytest.raises(FileNotFoundError):
        (mount.path / "absent").stat()
    with pytest.raises(OSError) as refused:
        (mount.path / ("n" * 256)).stat()
    assert refused.value.errno == errno.ENAMETOOLONG


def test_inode_numbers_stay_and_differ(mount: Mounted) -> None:
    first = {path.name: path.lstat().st_ino for path in mount.path.iterdir()}
    second = {path.name: path.lstat().st_ino for path in mount.path.iterdir()}
    assert first == second
    assert len(set(first.values())) == len(first)


def test_a_listing_can_be_rewound_and_sought_in(mount: Mounted) -> None:
    with os.scandir(mount.path / "many") as entries:
        names = [entry.name for entry in entries]
    assert sorted(names) == sorted(f"file-{number}" for number in range(1500))
    assert names == [entry.name for entry in os.scandir(mount.path / "many")]
    done = subprocess.run(["ls", "-a", mount.path / "empty"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [".", ".."]


def test_extended_attributes_say_what_a_file_is(mount: Mounted) -> None:
    path = mount.path / "nothing"
    found = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    assert found.pop("user.carfs.mount").startswith(b"file:///")
    assert found == {
        "user.carfs.cid": b"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
        "user.carfs.codec": b"raw",
        "user.carfs.size": b"0",
        "user.carfs.state": b"ShardStateAvailable",
        "user.carfs.verified": b"on-read",
    }
    with pytest.raises(OSError) as refused:
        os.getxattr(path, "user.carfs.nonsense")
    assert refused.value.errno == errno.ENODATA


def test_statfs_answers(mount: Mounted) -> None:
    found = os.statvfs(mount.path)
    assert (found.f_bfree, found.f_namemax) == (0, 255)
    assert found.f_blocks * found.f_frsize >= len(BIG)


def test_a_mapped_file_reads_right(mount: Mounted) -> None:
    with (
        (mount.path / "big.bin").open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view,
    ):
        assert view[3 * MIB : 3 * MIB + 100] == BIG[3 * MIB : 3 * MIB + 100]
        assert view.rfind(BIG[-50:]) == len(BIG) - 50
