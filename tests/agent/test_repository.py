"""One repository, one agent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.client import AgentUnreachable, Client
from agent.repository import NoHome, Repository, RepositoryLocked, locked
from tests.fixtures import REPOSITORY

HOLD = """
import sys
from pathlib import Path
from agent.repository import Repository, locked
with locked(Repository(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_path_comes_from_the_environment_or_is_in_the_home_directory() -> None:
    assert Repository.from_environment({"CARFS_PATH": "/srv/carfs"}).path == Path("/srv/carfs")
    assert Repository.from_environment({"CARFS_PATH": ""}).path == Path.home() / ".carfs"
    assert Repository.from_environment({"CARFS_PATH": "here"}).path == Path.cwd() / "here"


def test_without_a_home_directory_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 54321)  # a user whom the user database does not know
    with pytest.raises(NoHome, match="set CARFS_PATH"):
        Repository.from_environment({})
    monkeypatch.delenv("CARFS_PATH")
    with pytest.raises(AgentUnreachable, match="set CARFS_PATH"):
        Client()


@pytest.mark.parametrize("below", ["", "/deep"])
def test_a_file_in_its_place_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as raised:
        Repository(Path(f"{tmp_path}/file{below}")).create()
    assert str(raised.value.filename).startswith(f"{tmp_path}/file")


def test_a_new_repository_is_for_its_owner_only(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "deep" / "carfs")
    repository.create()
    repository.create()
    assert repository.path.stat().st_mode & 0o777 == 0o700
    assert repository.indices.is_dir()


def test_a_second_agent_is_told_who_is_there(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    message = rf"another agent \(process {os.getpid()}\) uses {tmp_path}"
    with locked(repository), pytest.raises(RepositoryLocked, match=message) as raised, locked(repository):
        pass
    assert raised.value.pid == os.getpid()
    with locked(repository):
        pass


def test_the_lock_of_a_killed_agent_is_free(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None and holder.stdin is not None
    with holder.stdout, holder.stdin:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RepositoryLocked), locked(Repository(tmp_path)):
            pass
        holder.kill()
        holder.wait()
    with locked(Repository(tmp_path)):
        pass
