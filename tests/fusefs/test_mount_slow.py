"""Storage that never answers: its readers get ETIMEDOUT within the deadline, and everybody else is served meanwhile."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path

import pytest

from carlib.pack import pack
from tests.fusefs.mounts import mounted, names_in

pytestmark = pytest.mark.fuse

READERS = 200
DEADLINE_S = 4.0


def packed(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    for number in range(READERS):
        (folder / name / f"{number}").write_bytes(b"%d" % number * 5000)
    pack(folder / name, folder / f"{name}.car")
    return folder / f"{name}.car"


def test_dead_storage_times_out_and_holds_up_nobody_else(tmp_path: Path) -> None:
    slow, fast = packed(tmp_path, "slow"), packed(tmp_path, "fast")
    arguments = [str(DEADLINE_S)]
    with mounted(
        tmp_path / "mnt", slow, fast, arguments=arguments, module="tests.fusefs.slow_mount"
    ) as mount:
        ends: list[tuple[int | None, float]] = []
        start = time.monotonic()

        def read(path: Path) -> None:
            try:
                path.read_bytes()
                ends.append((None, time.monotonic() - start))
            except OSError as error:
                ends.append((error.errno, time.monotonic() - start))

        files = [mount.path / "slow" / "root" / f"{number}" for number in range(READERS)]
        readers = [threading.Thread(target=read, args=(path,)) for path in files]
        for reader in readers:
            reader.start()
        took = []
        for number in range(50):
            begun = time.monotonic()
            assert len(names_in(mount.path / "slow" / "root")) == READERS
            assert (mount.path / "fast" / "root" / f"{number}").read_bytes() == b"%d" % number * 5000
            (mount.path / "slow" / "root" / f"{number}").stat()
            took.append(time.monotonic() - begun)
        for reader in readers:
            reader.join()
        assert {number for number, _ in ends} == {errno.ETIMEDOUT}
        assert max(after for _, after in ends) < 3 * DEADLINE_S
        assert sorted(took)[len(took) // 2] < 0.05
        assert sum(took) < DEADLINE_S
