"""The manifest is whole or it is none, and what it does not name is swept."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.dagstore.inverted import manifest
from agent.dagstore.inverted.manifest import Manifest, Part, Unreadable

SOME = Manifest(generation=7, parts=(Part("000000000007.segment", 100, 7),))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert manifest.read(tmp_path) == Manifest()
    manifest.write(tmp_path, SOME)
    assert manifest.read(tmp_path) == SOME


def test_a_manifest_with_any_byte_changed_or_cut_anywhere_is_unreadable(tmp_path: Path) -> None:
    manifest.write(tmp_path, SOME)
    path = tmp_path / manifest.NAME
    whole = path.read_bytes()
    damaged = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    for text in (*damaged, *(whole[:end] for end in range(len(whole)))):
        path.write_bytes(text)
        with pytest.raises(Unreadable):
            manifest.read(tmp_path)


@pytest.mark.parametrize(
    "wrong", [Manifest(version=2), Manifest(parts=(Part("../x.segment", 1, 1),))], ids=["version", "name"]
)
def test_a_manifest_that_says_what_we_do_not_know_is_unreadable(tmp_path: Path, wrong: Manifest) -> None:
    manifest.write(tmp_path, wrong)
    with pytest.raises(Unreadable):
        manifest.read(tmp_path)


def test_a_sweep_removes_leftovers_of_ours_and_nothing_else(tmp_path: Path) -> None:
    for name in ("1.segment", "2.segment", ".carfs-tmp-x", "README", manifest.NAME):
        (tmp_path / name).write_bytes(b"x")
    assert manifest.sweep(tmp_path, {"2.segment"}) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.segment", "README", manifest.NAME]
