"""Workers' groups on this machine's own cgroup v1."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.agent.groups import parents
from tests.agent.groups.parents import Parent
from tests.agent.groups.programs import MIB
from tests.agent.processes import until

WHY_NOT = parents.why_no_v1()
pytestmark = [pytest.mark.privileged, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]


@pytest.fixture
def parent() -> Iterator[Parent]:
    with parents.parent() as made:
        yield made


def heard(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    said: dict[str, object] = json.loads(process.stdout.readline())
    return said


def test_a_process_that_lies_about_its_memory_dies_alone(parent: Parent) -> None:
    said = parent.run("liar")
    assert said["code"] == -9
    assert said["kills"] == [0, 1]
    assert said["sibling"] is None
    assert 60 * MIB < said["peak"] <= 64 * MIB
    assert parent.groups() == []


def test_the_agent_stays_where_it_was(parent: Parent) -> None:
    assert parent.run("liar")["agent"] == ""


def test_a_limit_below_what_the_process_has_is_refused_and_changes_nothing(parent: Parent) -> None:
    said = parent.run("grow")
    assert 40 * MIB <= said["used"] <= said["peak"] < 64 * MIB
    assert not said["lowered"]
    assert "bytes already, and was to have 20971520" in said["problem"]


def test_a_limit_goes_up_and_down_and_away(parent: Parent) -> None:
    """memory.memsw.limit_in_bytes may at no moment be the smaller one."""
    assert parent.run("grow")["raised"]


def test_what_is_left_in_a_group_ends_with_it(parent: Parent) -> None:
    assert parent.run("grow")["code"] == -9


def test_groups_of_a_killed_agent_are_removed_by_the_next_one(parent: Parent) -> None:
    killed = parent.begin("hold")
    worker = heard(killed)["worker"]
    killed.kill()
    killed.communicate()
    assert len(parent.groups()) == 1
    assert parent.run("reason") == {"reason": "", "possible": True, "agent": ""}
    assert parent.groups() == []
    until(lambda: not os.path.exists(f"/proc/{worker}"))  # noqa: PTH110


def test_two_agents_in_one_group_leave_each_other_alone(parent: Parent) -> None:
    first = parent.begin("hold")
    heard(first)
    groups = parent.groups()
    assert parent.run("liar")["kills"] == [0, 1]
    assert parent.groups() == groups
    first.communicate()
    assert first.returncode == 0
    assert parent.groups() == []


def test_without_permission_there_is_a_reason_and_no_group(parent: Parent) -> None:
    said = parent.run("reason", "65534")
    assert not said["possible"]
    assert "could be made: Permission denied; on cgroup v1 only root may make them" in said["reason"]
