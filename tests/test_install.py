"""What `.ci/install` says where it may not or cannot install what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import REPOSITORY

TOOLS = ("bash", "dirname", "env")


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder of commands that is the whole PATH: no fusermount3, pkg-config or gcc among them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        found = next(path for path in map(Path, ("/usr/bin", "/bin")) if (path / tool).exists())
        (folder / tool).symlink_to(found / tool)
    (folder / "python3").symlink_to(sys.executable)
    return folder


def add(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)


def install(commands: Path, venv: Path) -> subprocess.CompletedProcess[str]:
    command = [str(REPOSITORY / ".ci" / "install"), str(venv)]
    return subprocess.run(command, env={"PATH": str(commands)}, capture_output=True, text=True, check=False)


def test_who_is_not_root_is_given_the_command_for_root(commands: Path, tmp_path: Path) -> None:
    add(commands, "apt-get", "exit 99")
    add(commands, "id", "echo 1000")
    run = install(commands, tmp_path / "venv")
    assert run.returncode == 1
    assert "only root can install them" in run.stderr
    assert (
        "    sudo apt-get install -y --no-install-recommends fuse3 pkg-config libfuse3-dev gcc" in run.stderr
    )


def test_where_there_is_no_apt_the_packages_are_named(commands: Path, tmp_path: Path) -> None:
    run = install(commands, tmp_path / "venv")
    assert run.returncode == 1
    assert run.stderr.startswith(
        "carfs: these are missing, by their Debian names: fuse3 pkg-config libfuse3-dev gcc"
    )


def test_root_installs_what_is_missing_and_no_more(commands: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    add(commands, "apt-get", f'echo "$*" >> {log}; [ "$1" = update ]')  # the installation fails: far enough
    add(commands, "id", "echo 0")
    assert install(commands, tmp_path / "venv").returncode != 0
    update, installed = log.read_text().splitlines()
    assert update.startswith("update")
    assert {"fuse3", "gcc"} <= set(installed.split())
    assert "python3" not in installed.split()
    assert not (tmp_path / "venv").exists()


def test_lock_files_name_no_place_and_hash_everything() -> None:
    for name in ("requirements.lock", "requirements-build.lock"):
        text = (REPOSITORY / name).read_text()
        assert "://" not in text
        assert "--index-url" not in text
        pins = [line for line in text.splitlines() if "==" in line]
        assert all(line.endswith("\\") for line in pins), name
        assert text.count("--hash=sha256:") >= len(pins)
