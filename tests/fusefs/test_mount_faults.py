"""What a mount does when data, files or its own process fail: an errno, never a hang, never a dead mountpoint."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.pack import pack
from fusefs import mounting
from tests.fixtures import REPOSITORY, fixture
from tests.fusefs.mounts import contents, mounted, names_in, write_car

pytestmark = pytest.mark.fuse

MIB = 1 << 20
DATA = random.Random(3).randbytes(6 * MIB)
HELLO = (Cid.of(b"hello\n"), b"hello\n")


def packed(folder: Path) -> Path:
    """A CAR of two files, one of six blocks."""
    (folder / "tree").mkdir()
    (folder / "tree" / "big").write_bytes(DATA)
    (folder / "tree" / "small").write_bytes(b"small\n")
    pack(folder / "tree", folder / "tree.car")
    return folder / "tree.car"


def location(car: Path, data: bytes) -> int:
    """Where a block's data lies in the CAR."""
    with ReadOnlyBlockstore.open(car) as blocks:
        found = blocks.locate(Cid.of(data))
        assert found is not None
        return found.data_offset


def overwrite(car: Path, offset: int, data: bytes) -> None:
    fd = os.open(car, os.O_WRONLY)
    os.pwrite(fd, data, offset)
    os.close(fd)


def test_a_corrupt_block_is_eio_and_one_line_and_the_rest_reads(tmp_path: Path) -> None:
    car = packed(tmp_path)
    overwrite(car, location(car, DATA[2 * MIB : 3 * MIB]) + 500, b"\0\0damage")
    with mounted(tmp_path / "mnt", car) as mount:
        for _ in range(3):
            with pytest.raises(OSError) as refused:
                (mount.path / "big").read_bytes()
            assert refused.value.errno == errno.EIO
        with (mount.path / "big").open("rb", buffering=0) as file:
            assert os.pread(file.fileno(), 2 * MIB, 0) == DATA[: 2 * MIB]
            assert os.pread(file.fileno(), MIB, 3 * MIB) == DATA[3 * MIB : 4 * MIB]
        assert (mount.path / "small").read_bytes() == b"small\n"
        assert mount.stop() == 0
    lines = [line for line in mount.lines if "does not match its CID" in line]
    assert len(lines) == 1
    bad = str(Cid.of(DATA[2 * MIB : 3 * MIB]))
    assert all(part in lines[0] for part in ("WARNING", "shard tree", "file big", bad, "offset"))


def test_a_car_cut_short_under_the_mount_is_eio_and_the_mount_lives(tmp_path: Path) -> None:
    car = packed(tmp_path)
    end = location(car, DATA[5 * MIB :])
    with mounted(tmp_path / "mnt", car) as mount:
        with (mount.path / "big").open("rb", buffering=0) as file:
            assert os.pread(file.fileno(), 4096, 0) == DATA[:4096]
            os.truncate(car, end)
            with pytest.raises(OSError) as refused:
                os.pread(file.fileno(), 4096, 5 * MIB + 8192)
            assert refused.value.errno == errno.EIO
        assert mount.process.poll() is None
        assert names_in(mount.path)


def test_a_car_changed_after_it_was_verified_is_verified_again(tmp_path: Path) -> None:
    car = packed(tmp_path)
    place = location(car, DATA[MIB : 2 * MIB])
    with mounted(tmp_path / "mnt", car) as mount:
        fd = os.open(mount.path / "big", os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        assert os.pread(fd, 4096, MIB) == DATA[MIB : MIB + 4096]
        overwrite(car, place + MIB - 10, b"damage")
        with pytest.raises(OSError) as refused:
            os.pread(fd, 4096, MIB + 512 * 1024)
        os.close(fd)
        assert refused.value.errno == errno.EIO


def test_after_kill_the_mountpoint_is_cleared_and_mounted_again(tmp_path: Path) -> None:
    car = packed(tmp_path)
    with mounted(tmp_path / "mnt", car) as mount:
        assert mount.stop(signal.SIGKILL) == -signal.SIGKILL
        with pytest.raises(OSError) as refused:
            names_in(mount.path)
        assert refused.value.errno == errno.ENOTCONN
        with mounted(tmp_path / "mnt", car) as again:
            assert (again.path / "small").read_bytes() == b"small\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_unmounts_even_with_a_file_open(tmp_path: Path, number: signal.Signals) -> None:
    with mounted(tmp_path / "mnt", packed(tmp_path)) as mount:
        fd = os.open(mount.path / "small", os.O_RDONLY)
        assert mount.stop(number) == 0
        assert mounting.mounted_at(mount.path) is None
        with pytest.raises(OSError) as refused:
            os.close(fd)
        assert refused.value.errno == errno.ENOTCONN


def test_an_external_umount_ends_the_process(tmp_path: Path) -> None:
    with mounted(tmp_path / "mnt", packed(tmp_path)) as mount:
        subprocess.run(["fusermount3", "-u", mount.path], check=True)
        assert mount.process.wait(20) == 0


def test_umount_of_a_busy_mount_is_refused_and_lazily_done(tmp_path: Path) -> None:
    with mounted(tmp_path / "mnt", packed(tmp_path)) as mount, (mount.path / "small").open("rb") as file:
        busy = carfs("umount", str(mount.path))
        assert (busy.returncode, "busy" in busy.stderr) == (4, True)
        assert carfs("umount", "--lazy", str(mount.path)).returncode == 0
        assert file.read() == b"small\n"
        assert mounting.mounted_at(mount.path) is None


def carfs(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=60)


def test_mounting_twice_or_over_files_is_refused_with_a_reason(tmp_path: Path) -> None:
    car = packed(tmp_path)
    with mounted(tmp_path / "mnt", car):
        again = carfs("mount", str(car), str(tmp_path / "mnt"))
        assert (again.returncode, "is a mountpoint already (carfs, " in again.stderr) == (4, True)
    full = carfs("mount", str(car), str(tmp_path / "tree"))
    assert (full.returncode, "is not empty" in full.stderr) == (4, True)
    absent = carfs("mount", str(car), str(tmp_path / "absent"))
    assert (absent.returncode, "no such directory" in absent.stderr) == (3, True)
    with mounted(tmp_path / "tree", car, arguments=["-o", "nonempty"]) as mount:
        assert (mount.path / "small").read_bytes() == b"small\n"


def test_errors_come_to_the_terminal_before_the_mount_leaves_it(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    junk = tmp_path / "junk.car"
    junk.write_bytes(b"this is not a CAR")
    refused = carfs("mount", str(junk), str(tmp_path / "mnt"))
    assert (refused.returncode, refused.stderr.startswith(f"carfs: {junk}: "), refused.stdout) == (
        5,
        True,
        "",
    )
    assert carfs("mount", "-o", "nonsense", str(junk), str(tmp_path / "mnt")).returncode == 4
    assert carfs("mount", str(tmp_path / "no.car"), str(tmp_path / "mnt")).returncode == 3
    nobody = carfs("mount", str(tmp_path / "mnt"))
    assert (nobody.returncode, "no agent listens" in nobody.stderr) == (6, True)


def test_a_background_mount_answers_when_the_command_returns(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = carfs("mount", "--log", str(log), str(packed(tmp_path)), str(_made(tmp_path / "mnt")))
    try:
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert (tmp_path / "mnt" / "small").read_bytes() == b"small\n"
    finally:
        ended = carfs("umount", str(tmp_path / "mnt"))
    assert (ended.returncode, carfs("umount", str(tmp_path / "mnt")).returncode) == (0, 3)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_damaged_car_is_shown_as_far_as_it_is_whole(tmp_path: Path) -> None:
    car = write_car(tmp_path / "a.car", [HELLO, (Cid.of(b"x" * 100), b"x" * 100)], [HELLO[0]], version=1)
    os.truncate(car, car.stat().st_size - 10)
    with mounted(tmp_path / "mnt", car) as mount:
        assert contents(mount.path) == {"a": b"hello\n"}
        assert "data ends inside a section" in (mount.path / ".carfs" / "shard.json").read_text()
    assert "is damaged and shown as far as it is whole" in mount.log()


def test_a_hash_that_cannot_be_computed_is_not_supported(tmp_path: Path) -> None:
    strange = Cid(b"\x01\x55\x22\x08" + bytes(8))  # murmur3: nothing that proves anything
    car = write_car(tmp_path / "a.car", [(strange, b"data"), HELLO], [HELLO[0], strange], version=1)
    with mounted(tmp_path / "mnt", car) as mount:
        with pytest.raises(OSError) as refused:
            (mount.path / "blocks" / str(strange)).read_bytes()
        assert refused.value.errno == errno.EOPNOTSUPP


def test_a_hamt_of_which_most_is_missing_lists_what_is_there(tmp_path: Path) -> None:
    car = fixture("ipfs+kubo/test/cli/fixtures/TestGatewayHAMTDirectory.car")
    with mounted(tmp_path / "mnt", car) as mount:
        roots = mount.path / ".carfs" / "blocks"
        names = names_in(roots)
        assert len(names) == 967
