"""The doctor over real state: with nothing, with a catalogue, with what was broken by hand; and `--fix`."""

from __future__ import annotations

import json
import threading
from functools import partial
from pathlib import Path

import pytest

from agent.cli.main import main
from agent.client import AgentError
from agent.dagstore.scrub.records import Depth
from agent.doctor import examination
from agent.doctor.consultation import consult, consult_alone, live_of
from agent.doctor.findings import FileFacts
from agent.repository import Repository, locked
from tests.agent.processes import AgentProcess
from tests.agent.scrub.test_in_dagstore import agent_at
from tests.agent.scrub.worlds import BLOCKS, rot, section_of, write_car
from tests.conftest import ExpectWarning


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("CARFS_PATH", str(tmp_path / "state"))
    made = Repository(tmp_path / "state")
    made.create()
    return made


async def register(repository: Repository, key: str, car: Path, **more: object) -> None:
    async with agent_at(repository.path, repository.indices, repository.repairs) as (dagstore, scrubber):
        await dagstore.register(key, str(car), wait=True, **more)  # type: ignore[arg-type]  # of a test
        async for _ in scrubber.verify([key], depth=Depth.FULL):
            pass


def checks(repository: Repository, *, fix: bool = False) -> list[str]:
    return [one.check for one in consult_alone(repository, fix=fix)]


async def test_a_healthy_state_is_well_and_nothing_is_written(repository: Repository, tmp_path: Path) -> None:
    assert checks(repository) == []
    await register(repository, "a", write_car(tmp_path / "a.car"))
    before = sorted((path, path.stat().st_mtime_ns) for path in repository.path.rglob("*") if path.is_file())
    assert checks(repository) == []
    after = sorted((path, path.stat().st_mtime_ns) for path in repository.path.rglob("*") if path.is_file())
    assert [one for one in after if one not in before and one[0].suffix == ".db"] == []


async def test_what_was_broken_is_found(
    repository: Repository, tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("bad block")
    expect_warning("damaged, 1 bad")
    gone, rotten = write_car(tmp_path / "gone.car"), write_car(tmp_path / "rotten.car")
    await register(repository, "gone", gone)
    rot(rotten, section_of(rotten, BLOCKS[3][0])[0] + 500)
    await register(repository, "rotten", rotten)
    gone.unlink()
    index = max(repository.indices.glob("*.idx"))
    index.write_bytes(b"")
    assert sorted(checks(repository)) == ["data-gone", "index-damaged", "quarantine"]


async def test_fix_removes_what_nobody_has_and_takes_back_permissions(
    repository: Repository, tmp_path: Path
) -> None:
    await register(repository, "a", write_car(tmp_path / "a.car"))
    orphan = repository.indices / f"{'a' * 52}.7.idx"
    orphan.write_bytes(b"x")
    foreign = repository.indices / "notes.txt"
    foreign.write_bytes(b"x")
    repository.path.chmod(0o777)
    assert checks(repository) == ["permissions", "orphan-index"]
    assert orphan.exists()
    assert checks(repository, fix=True) == ["permissions", "orphan-index"]
    assert (orphan.exists(), foreign.exists(), repository.path.stat().st_mode & 0o777) == (False, True, 0o755)
    assert checks(repository) == []


async def test_a_damaged_catalogue_is_said_and_left_alone(repository: Repository, tmp_path: Path) -> None:
    await register(repository, "a", write_car(tmp_path / "a.car"))
    data = bytearray(repository.catalogue.read_bytes())
    data[4096:8192] = b"\xff" * 4096
    repository.catalogue.write_bytes(data)
    for file in repository.path.glob("carfs.db-*"):
        file.unlink()
    (finding,) = consult_alone(repository, fix=True)
    assert (finding.check, finding.corrupt) == ("catalogue", True)
    assert repository.catalogue.read_bytes() == data
    repository.catalogue.write_bytes(b"not a database at all" * 100)
    assert checks(repository) == ["catalogue"]


async def test_with_an_agent_it_has_shards_tried_again(
    repository: Repository, tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("the doctor cannot read its index")
    car = write_car(tmp_path / "a.car")
    async with agent_at(repository.path, repository.indices, repository.repairs) as (dagstore, scrubber):
        await dagstore.register("a", str(car), wait=True)
        path = dagstore.record("a").index_path
        assert path is not None
        await dagstore.inverted.wait_complete()  # which would find the damage, too
        rot(Path(path), 0)
        live = partial(live_of, dagstore, scrubber)
        (finding,) = await consult(repository, dagstore, live, scrub_interval_s=0, with_fix=True)
        assert (finding.check, finding.fixed) == ("index-damaged", "its index was made anew")
        assert await consult(repository, dagstore, live, scrub_interval_s=0, with_fix=True) == []


async def test_an_agent_that_does_not_answer_is_a_finding(repository: Repository) -> None:
    with locked(repository):
        assert checks(repository, fix=True) == ["agent"]


async def test_the_command_says_it_and_ends_with_the_code_for_it(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str], expect_warning: ExpectWarning
) -> None:
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "All is well.\n"
    car = write_car(tmp_path / "a.car")
    await register(repository, "a", car)
    car.unlink()
    assert main(["doctor"]) == 1
    assert "error: data-gone: the data of shard 'a' is not at file://" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 1
    assert [one["Check"] for one in json.loads(capsys.readouterr().out)] == ["data-gone"]
    next(repository.indices.glob("*.idx")).unlink()
    assert main(["doctor"]) == 5


def test_the_command_asks_the_agent_that_runs_and_has_it_mend(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with AgentProcess(repository.path) as agent:
        assert main(["doctor"]) == 0
        assert capsys.readouterr().out == "All is well.\n"
        with pytest.raises(AgentError):
            agent.register("a", tmp_path / "a.car")
        assert main(["doctor"]) == 1
        out = capsys.readouterr().out
        assert "error: errored: shard 'a' is errored (gone" in out
        assert out.endswith("2 errors; --fix mends 1\n")
        write_car(tmp_path / "a.car")
        assert main(["doctor", "--fix"]) == 0
        assert "    fixed: its index was made anew\n" in capsys.readouterr().out
        assert main(["doctor", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == []


def test_without_an_agent_it_looks_where_the_configuration_says(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = repository.path / "elsewhere" / "index"
    elsewhere.mkdir(parents=True)
    (elsewhere / f"{'a' * 52}.7.idx").write_bytes(b"x")
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "All is well.\n"
    monkeypatch.setenv("CARFS_DAGSTORE_ROOT_DIR", "elsewhere")
    assert main(["doctor"]) == 0
    assert "note: orphan-index" in capsys.readouterr().out
    monkeypatch.setenv("CARFS_DAGSTORE_ROOT_DIR", "")
    repository.config.write_text("[nonsense]\n")
    assert main(["doctor"]) == 1
    assert "nonsense" in capsys.readouterr().err


def test_where_there_is_no_state_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CARFS_PATH", str(tmp_path / "none"))
    assert main(["doctor"]) == 3
    assert "there is no state yet" in capsys.readouterr().err


async def test_a_folder_that_does_not_answer_is_said_once_and_holds_up_nothing_else(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dead").mkdir()
    for key, folder in (("a", tmp_path / "dead"), ("b", tmp_path / "dead"), ("c", tmp_path)):
        await register(repository, key, write_car(folder / f"{key}.car"))
    answers = threading.Event()

    def stat(path: Path) -> FileFacts:
        if path.parent.name == "dead":
            answers.wait()
        return look(path)

    look = examination._file
    monkeypatch.setattr(examination, "_file", stat)
    monkeypatch.setattr(examination, "FOLDER_TIMEOUT_S", 0.2)
    found = consult_alone(repository, fix=False)
    answers.set()
    assert [(one.check, one.path) for one in found] == [("silent", str(tmp_path / "dead"))]
