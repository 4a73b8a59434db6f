"""Mountpoints and options, from tables and folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusefs.mounting import Mounted, Refused, fuse_options, mounts, prepare

TABLE = r"""22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
42 22 0:39 / /mnt/my\040files\134x ro,nosuid,nodev shared:5 - fuse.carfs a\040b.car ro,user_id=0
"""


def test_the_mount_table_is_read_with_its_escapes() -> None:
    assert mounts(TABLE) == [
        Mounted("254:0", "/", "ext4", "/dev/vda"),
        Mounted("0:39", "/mnt/my files\\x", "fuse.carfs", "a b.car"),
    ]


def test_options_are_read_only_and_checked() -> None:
    options = fuse_options(["noexec", "x-systemd.automount", "rw", "nofail"], "a b,c.car")
    assert {"ro", "nosuid", "nodev", "default_permissions", "noexec", "subtype=carfs"} <= options
    assert "fsname=a_b_c.car" in options
    assert ("allow_other" in options) == (os.geteuid() == 0)
    with pytest.raises(Refused, match="'exce' is not known"):
        fuse_options(["exce"], "x")


def test_a_mountpoint_must_be_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match="is not a directory"):
        prepare(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        prepare(tmp_path / "absent")
    with pytest.raises(Refused, match="is not empty"):
        prepare(tmp_path)
    assert prepare(tmp_path, nonempty=True) == tmp_path
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "empty").mkdir()
    assert prepare(tmp_path / "link") == tmp_path / "empty"
