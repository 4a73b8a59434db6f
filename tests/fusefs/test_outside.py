"""Where a link that is made in the mount leads to, found without asking the mount."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusefs.errors import NoSource, OwnTree
from fusefs.imports import outside


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    """Where nothing is mounted: whoever looked into it would find nothing."""
    (tmp_path / "mnt").mkdir()
    (tmp_path / "data" / "set").mkdir(parents=True)
    (tmp_path / "short").symlink_to("data/set")
    (tmp_path / "inwards").symlink_to(tmp_path / "mnt" / "shards")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path / "mnt"


@pytest.mark.parametrize(
    "target", ["../../data/set", "../../short", "../../data/../data/./set/", "{top}/short"]
)
def test_a_path_out_of_the_mount_is_found(mountpoint: Path, target: str) -> None:
    path = target.format(top=mountpoint.parent).encode()
    assert outside(mountpoint, mountpoint / "imports", path) == mountpoint.parent / "data" / "set"


@pytest.mark.parametrize(
    "target", ["other", "..", "../shards/x", "../../inwards/x", "{top}/mnt", "../../mnt/x"]
)
def test_a_path_into_the_mount_is_refused(mountpoint: Path, target: str) -> None:
    with pytest.raises(OwnTree):
        outside(mountpoint, mountpoint / "imports", target.format(top=mountpoint.parent).encode())


@pytest.mark.parametrize("target", ["../../nothing", "../../data/nothing/x", "../../loop", "/nowhere"])
def test_a_path_to_nothing_is_no_source(mountpoint: Path, target: str) -> None:
    with pytest.raises(NoSource):
        outside(mountpoint, mountpoint / "imports", os.fsencode(target))
