"""`carlib.durable`: a file in the place of another, and nothing else about it changed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from carlib.durable import replacing


def _write(path: Path, data: bytes = b"new") -> None:
    with replacing(path) as file:
        file.write(data)


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "private.car"
    path.write_bytes(b"old")
    for mode in (0o600, 0o664):
        path.chmod(mode)
        _write(path)
        assert (path.read_bytes(), path.stat().st_mode & 0o7777) == (b"new", mode)


def test_a_new_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        _write(tmp_path / "new.car")
    finally:
        os.umask(before)
    assert (tmp_path / "new.car").stat().st_mode & 0o7777 == 0o640


@pytest.mark.parametrize("dangling", [False, True])
def test_through_a_symlink_the_file_is_replaced_and_the_symlink_stays(tmp_path: Path, dangling: bool) -> None:
    (tmp_path / "else").mkdir()
    real, link = tmp_path / "else" / "real.car", tmp_path / "link.car"
    link.symlink_to("else/real.car")
    if not dangling:
        real.write_bytes(b"old")
    _write(link)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["else", "link.car", "real.car"]


def test_a_symlink_to_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """Such as ``/dev/stdout``, which root could lose to a file."""
    os.mkfifo(tmp_path / "fifo")
    link = tmp_path / "link"
    link.symlink_to("fifo")
    with pytest.raises(OSError, match="not a regular file") as raised:
        _write(link)
    assert raised.value.filename == str(link)
    assert link.is_symlink()


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        _write(tmp_path / "absent" / "new.car")
    assert raised.value.filename == str(tmp_path / "absent" / "new.car")


def test_no_space_names_the_file_that_it_was_to_become(tmp_path: Path) -> None:
    def fail() -> None:
        with replacing(tmp_path / "new.car"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space") as raised:
        fail()
    assert raised.value.filename == str(tmp_path / "new.car")
    assert list(tmp_path.iterdir()) == []
