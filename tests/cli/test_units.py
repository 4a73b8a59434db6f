"""`carfs systemd` with files alone; with a booted systemd it is tests/machine/checks/installed.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.cli.exits import Exit
from agent.cli.main import main
from agent.units import AGENT, PROGRAM, source
from tests import units

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze"
)
Capture = pytest.CaptureFixture[str]


@needs_analyze
def test_systemd_has_nothing_to_say_about_them() -> None:
    assert units.verified() == ""


@needs_analyze
@pytest.mark.parametrize(
    ("unit", "most"), [(AGENT, 2.0), ("carfs-worker@.service", 2.0), ("carfs-mount@.service", 4.5)]
)
def test_they_may_do_little(unit: str, most: float) -> None:
    assert units.exposure(unit) <= most


def test_nothing_gives_the_mount_a_namespace_of_its_own() -> None:
    lines = (source() / "carfs-mount@.service").read_text().splitlines()
    keys = {line.partition("=")[0] for line in lines if line[:1].isalpha()}
    own = (
        "Private", "ProtectSystem", "ProtectHome", "ProtectKernel", "ProtectControl", "ProtectProc", "ReadWrite",
        "ReadOnly", "Inaccessible", "Temporary", "Bind", "Root", "Mount", "Runtime", "State", "Cache", "Dynamic",
    )  # fmt: skip
    assert not [key for key in keys if key.startswith(own)]


def test_installed_files_name_the_carfs_that_wrote_them_and_go_again(tmp_path: Path, capsys: Capture) -> None:
    root = ["--root", str(tmp_path)]
    assert main(["systemd", "status", *root]) == Exit.NOT_FOUND
    assert "missing" in capsys.readouterr().out
    assert main(["systemd", "install", *root]) == Exit.DONE
    unit = tmp_path / "etc/systemd/system" / AGENT
    assert f"wrote {unit}\n" in capsys.readouterr().out
    assert PROGRAM not in unit.read_text() and "/carfs agent\n" in unit.read_text()
    assert (tmp_path / "etc/sysusers.d/carfs.conf").exists()
    assert main(["systemd", "status", *root]) == Exit.DONE
    unit.write_text("something else")
    assert main(["systemd", "status", *root]) == Exit.FAILED
    assert f"{unit}: another version" in capsys.readouterr().out
    assert main(["systemd", "uninstall", *root]) == Exit.DONE
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "etc").write_text("")
    assert main(["systemd", "install", "--root", str(tmp_path)]) == Exit.FAILED
    assert "Not a directory" in capsys.readouterr().err


def test_a_relative_mountpoint_is_refused(tmp_path: Path, capsys: Capture) -> None:
    assert main(["systemd", "install", "--root", str(tmp_path), "--mount", "mnt"]) == Exit.USAGE
    assert "absolute path" in capsys.readouterr().err
