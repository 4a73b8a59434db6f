"""The machines themselves: what is in their image, what they give back, and what is said where there are none."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests import machine
from tests.machine import image


@pytest.fixture
def box() -> None:
    if why_not := machine.why_not("box"):
        pytest.skip(why_not)


def pinned() -> set[str]:
    return {line.partition("==")[0] for line in image.requirements().splitlines() if "==" in line}


def test_the_image_has_what_carfs_needs_and_not_what_its_tests_need() -> None:
    project = tomllib.loads((image.REPOSITORY / "pyproject.toml").read_text())["project"]
    named = {image.package(requirement) for requirement in project["dependencies"]}
    assert named | {"outcome", "sortedcontainers"} <= pinned()
    assert not {"moto", "pytest", "mypy", "boto3"} & pinned()


def test_every_requirement_of_the_image_has_a_hash() -> None:
    blocks = image.requirements().replace("\\\n", "").splitlines()
    assert all("--hash=sha256:" in block for block in blocks)


def test_a_change_of_carfs_makes_no_new_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = image.key()
    for name in ("pyproject.toml", "requirements.lock", "requirements-build.lock"):
        (tmp_path / name).write_bytes((image.REPOSITORY / name).read_bytes())
    monkeypatch.setattr(image, "REPOSITORY", tmp_path)
    assert image.key() == before
    lock = tmp_path / "requirements.lock"
    lock.write_text(lock.read_text().replace("\ntrio==", "\ntrio==9", 1))
    assert image.key() != before


def test_where_there_is_no_image_it_is_said_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "CACHE", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert machine.why_not("run") == f"no image to boot at {image.folder()}: only root can build one"
    assert machine.why_not("box") == "a box needs root"
    assert image.build() == "only root can build one"
    monkeypatch.setattr(image, "why_not_build", lambda: "")
    assert machine.why_not("run").endswith(": run `make machine`")


def test_images_that_nobody_boots_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, age_s in (("old", image.UNUSED_S + 60), ("new", 0)):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.lock").touch()
        ok = tmp_path / name / "ok"
        ok.touch()
        os.utime(ok, (ok.stat().st_mtime - age_s,) * 2)
    monkeypatch.setattr(image, "CACHE", tmp_path)
    image.remove_unused()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "new.lock"]


@pytest.mark.parametrize("script", ["build", "job", "pack", "box", "run"])
def test_scripts_are_bash(script: str) -> None:
    subprocess.run(["bash", "-n", image.HERE / script], check=True)


@pytest.mark.machine
@pytest.mark.slow
def test_what_systemd_runs_in_a_box_is_up(box: None) -> None:
    assert machine.box("systemctl is-system-running --wait").output == "running\n"


@pytest.mark.machine
@pytest.mark.slow
def test_a_box_that_takes_too_long_is_ended_and_nothing_is_left(
    box: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    result = machine.box("cat /dev/zero >/dev/null", timeout_s=4)
    assert result == machine.Result(124, "", "box: took longer than --timeout 4 s\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.machine
@pytest.mark.slow
def test_a_limit_of_a_whole_box_is_seen_as_an_ancestors_only(box: None) -> None:
    group = "/sys/fs/cgroup/memory/x"
    command = f"mkdir {group} && cat {group}/memory.limit_in_bytes {group}/memory.stat"
    lines = machine.box(command, mem_mib=500).output.splitlines()
    assert lines[0] == "9223372036854771712"
    assert f"hierarchical_memory_limit {500 << 20}" in lines
