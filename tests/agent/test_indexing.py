"""The task `index`: an index that fits the file as it was from beginning to end, or none."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import FileMount, Fingerprint
from agent.workers.indexing import build_index
from carlib import indexing
from tests.agent.cars import SECTION, write_broken_car, write_car
from tests.fixtures import fixture


def task(tmp_path: Path, path: Path) -> dict[str, str]:
    return {"path": str(path), "scratch": str(tmp_path / "scratch"), "out": str(tmp_path / "out.idx")}


def test_the_index_is_what_carlib_builds_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = write_car(tmp_path / "x.car")
    facts = build_index(task(tmp_path, path), lambda _done, _total: None)
    indexing.build(path, tmp_path / "expected")
    index = (tmp_path / "out.idx").read_bytes()
    assert (index, facts["size"]) == ((tmp_path / "expected").read_bytes(), len(index))
    assert sorted(found.name for found in tmp_path.iterdir()) == ["expected", "out.idx", "x.car"]


def test_a_file_that_grows_while_it_is_indexed_gives_no_index(tmp_path: Path) -> None:
    path = write_car(tmp_path / "x.car")

    def grow(_done: int, _total: int) -> None:
        with path.open("ab") as file:
            file.write(SECTION)

    with pytest.raises(ShardError, match="was written to while it was indexed") as raised:
        build_index(task(tmp_path, path), grow)
    assert raised.value.error_class is ErrorClass.BUSY
    assert not (tmp_path / "out.idx").exists()


def test_a_file_that_is_still_being_copied_is_busy_and_not_corrupt(tmp_path: Path) -> None:
    path = write_broken_car(tmp_path / "x.car")
    original = FileMount.stat

    def stat(mount: FileMount) -> Fingerprint:
        found = original(mount)
        path.write_bytes(path.read_bytes() + b"x")
        return found

    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(ShardError, match="recover the shard") as raised,
    ):
        patch.setattr(FileMount, "stat", stat)
        build_index(task(tmp_path, path), lambda _done, _total: None)
    assert raised.value.error_class is ErrorClass.BUSY


@pytest.mark.parametrize(("number", "named"), [(errno.ENOSPC, "indices"), (errno.EIO, "x.car")])
def test_an_error_of_the_system_names_the_file_system_that_it_is_about(
    tmp_path: Path, number: int, named: str
) -> None:
    def fail(_done: int, _total: int) -> None:
        raise OSError(number, os.strerror(number))  # as write(2) and read(2) do

    (tmp_path / "indices").mkdir()
    params = task(tmp_path, write_car(tmp_path / "x.car")) | {"out": str(tmp_path / "indices" / "out.idx")}
    with pytest.raises(OSError, match=re.escape(os.strerror(number))) as raised:
        build_index(params, fail)
    assert raised.value.filename == str(tmp_path / named)


def test_a_damaged_file_gives_no_index(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="data ends inside a section"):
        build_index(task(tmp_path, write_broken_car(tmp_path / "x.car")), lambda _done, _total: None)
    assert not (tmp_path / "out.idx").exists()


def test_a_real_carv2_is_described_as_go_car_does(tmp_path: Path) -> None:
    path = fixture("generated-with-go-car/rw-default.car")
    facts = build_index(task(tmp_path, path), lambda _done, _total: None)
    assert (facts["version"], facts["codec"]) == (2, 0x0401)
    assert facts["data_offset"] >= 51
    assert facts["roots"]
