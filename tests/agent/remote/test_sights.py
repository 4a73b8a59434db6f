"""What a remote worker must see before it begins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.workers.remote.sights import PROOF, Sight, difference, sights, trouble_with, write_proof
from agent.workers.remote.staging import Staged


def test_the_agents_folder_is_told_by_what_it_wrote_there(tmp_path: Path) -> None:
    proof = write_proof(tmp_path)
    assert trouble_with(tmp_path, proof) == ""
    write_proof(tmp_path)
    assert "is not the agent's, but another one" in trouble_with(tmp_path, proof)
    (tmp_path / PROOF).unlink()
    assert trouble_with(tmp_path, proof).startswith(f"cannot read {tmp_path / PROOF}: No such file")


def test_another_version_of_the_data_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.car"
    path.write_bytes(b"1234")
    due = sights({"path": str(path)})
    assert (difference(due), due[0].size) == ("", 4)
    path.write_bytes(b"12345")
    assert "another file here, or another version of it: size 5, not 4" in difference(due)
    path.unlink()
    assert difference(due) == f"{path}: No such file or directory"


def test_another_file_of_the_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    path, other = tmp_path / "x.car", tmp_path / "y.car"
    path.write_bytes(b"1234")
    due = sights({"path": str(path)})
    other.write_bytes(b"1234")
    os.utime(other, ns=(due[0].mtime_ns, due[0].mtime_ns))
    other.rename(path)
    assert "inode" in difference(due)


def test_all_files_of_an_access_are_looked_at_and_those_that_grow_may_grow(tmp_path: Path) -> None:
    for name in ("data", "map", "repairs", "index"):
        (tmp_path / name).write_bytes(b"1")
    base = {"Kind": "transient", "Data": str(tmp_path / "data"), "Map": str(tmp_path / "map"), "Size": 1}
    access = {"Kind": "repaired", "Base": base, "Repairs": str(tmp_path / "repairs"), "Patches": []}
    due = sights({"access": access, "index": str(tmp_path / "index")})
    assert {Path(sight.path).name for sight in due} == {"data", "map", "repairs", "index"}
    (tmp_path / "repairs").write_bytes(b"123")
    assert difference(due) == ""
    (tmp_path / "index").write_bytes(b"12")
    assert "index is another file" in difference(due)


def test_a_file_that_the_agent_does_not_see_is_left_to_the_task(tmp_path: Path) -> None:
    assert sights({"path": str(tmp_path / "absent")}) == []


def test_a_folder_must_be_there_to_be_written_in(tmp_path: Path) -> None:
    assert difference([Sight(str(tmp_path))]) == ""
    assert (
        difference([Sight(str(tmp_path / "absent"))]) == f"{tmp_path / 'absent'}: No such file or directory"
    )


def test_a_path_that_is_no_text_is_looked_at_too(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.car")
    path.write_bytes(b"1")
    assert difference(sights({"path": str(path)})) == ""


def attempt(tmp_path: Path, assignment: str) -> Staged:
    params = {
        "path": "x.car",
        "scratch": str(tmp_path / "building" / "x.1.idx"),
        "out": str(tmp_path / "x.1.idx"),
    }
    return Staged("index", params, assignment)


def test_two_attempts_write_nothing_under_one_name(tmp_path: Path) -> None:
    first, second = attempt(tmp_path, "a"), attempt(tmp_path, "b")
    names = [{one.params["scratch"], one.params["out"]} for one in (first, second)]
    assert not names[0] & names[1]
    assert Path(first.params["out"]).name == "x.1.idx"  # it is part of the result
    assert first.params["path"] == "x.car"


def test_an_attempt_that_was_given_up_can_write_nothing_any_more(tmp_path: Path) -> None:
    """Its worker goes on, and finishes after another one: its folder is gone, and the other's file is untouched."""
    lost, other = attempt(tmp_path, "a"), attempt(tmp_path, "b")
    for one in (lost, other):
        one.make()
        Path(one.params["out"]).write_text(one.assignment)
    other.accept()
    other.discard()
    lost.discard()
    with pytest.raises(FileNotFoundError):
        Path(lost.params["scratch"]).mkdir(exist_ok=True)
    with pytest.raises(FileNotFoundError):
        Path(lost.params["out"]).write_text("late")
    assert (tmp_path / "x.1.idx").read_text() == "b"
    assert list((tmp_path / "building").iterdir()) == []


def test_a_kind_that_writes_nothing_is_passed_on_as_it_is(tmp_path: Path) -> None:
    staged = Staged("verify", {"index": "i"}, "a")
    staged.make()
    staged.accept()
    staged.discard()
    assert (staged.params, staged.folder) == ({"index": "i"}, None)
