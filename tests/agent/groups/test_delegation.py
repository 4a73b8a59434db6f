"""Which groups of cgroup v2 are divided, and that nothing is moved in those that are not ours."""

from __future__ import annotations

import errno

import pytest

from agent.workers.groups import open_groups
from tests.agent.groups.kernel import MOUNT, FakeKernel

UNIT = "/system.slice/carfs.service"
SESSION = "/user.slice/user-1000.slice/session-3.scope"
USERS = "/user.slice/user-1000.slice/user@1000.service"
OWN = f"{USERS}/app.slice/carfs.service"
DELEGATED = (MOUNT + UNIT, "user.delegate")


def reason(kernel: FakeKernel, uid: int = 0) -> str:
    """Why not; and that nobody was moved, and nothing made."""
    groups = dict(kernel.groups)
    before = {folder: list(pids) for folder, pids in groups.items()}
    given = open_groups(kernel, uid=uid).reason
    assert kernel.groups == before
    return given


@pytest.mark.parametrize("mark", ["user.delegate", "trusted.delegate"])
def test_a_delegated_group_is_divided_with_all_that_is_in_it_moved_to_the_leaf(mark: str) -> None:
    kernel = FakeKernel(UNIT, others=("101", "102"))
    kernel.marks[MOUNT + UNIT, mark] = "1"
    groups = open_groups(kernel, uid=0)
    assert (groups.reason, groups.level) == ("", "system.slice/carfs.service")
    assert kernel.groups == {
        MOUNT: [], f"{MOUNT}/system.slice": [], MOUNT + UNIT: [], f"{MOUNT}{UNIT}/agent": ["100", "101", "102"],
    }  # fmt: skip
    assert kernel.files[f"{MOUNT}{UNIT}/cgroup.subtree_control"] == "memory"


def test_an_agent_that_finds_itself_in_a_leaf_divides_the_group_above() -> None:
    """It was started anew by its supervisor within the unit, or by systemd with DelegateSubgroup=."""
    kernel = FakeKernel(f"{UNIT}/agent")
    kernel.marks[DELEGATED] = "1"
    groups = open_groups(kernel, uid=0)
    assert groups.level == "system.slice/carfs.service"
    assert kernel.where(kernel.PID) == f"{MOUNT}{UNIT}/agent"


def test_a_unit_without_delegation_is_left_alone() -> None:
    assert reason(FakeKernel(UNIT)) == (
        "system.slice/carfs.service is not delegated; put Delegate=memory in its unit"
    )


def test_a_session_is_left_alone() -> None:
    assert reason(FakeKernel(SESSION, others=("99",)), uid=1000) == (
        "user.slice/user-1000.slice/session-3.scope is a session's or a command's, not the agent's; "
        "start that in a unit with Delegate=memory"
    )


def test_a_terminal_in_a_scope_of_the_users_own_manager_is_left_alone() -> None:
    scope = f"{USERS}/app.slice/vte-spawn-1.scope"
    assert "is a session's" in reason(FakeKernel(scope), uid=1000)


def test_the_machines_root_group_is_left_alone() -> None:
    assert reason(FakeKernel("/")) == (
        "the machine's root group is not divided; start the agent in a unit with Delegate=memory"
    )


def test_the_root_of_a_cgroup_namespace_is_divided() -> None:
    kernel = FakeKernel("/")
    kernel.files |= {f"{MOUNT}/cgroup.events": "populated 1", f"{MOUNT}/cgroup.type": "domain"}
    assert open_groups(kernel, uid=0).reason == ""
    assert kernel.where(kernel.PID) == f"{MOUNT}/agent"


def test_the_leaf_of_a_namespace_root_that_was_divided_before_is_known() -> None:
    kernel = FakeKernel("/agent")
    kernel.files |= {f"{MOUNT}/cgroup.events": "populated 1", f"{MOUNT}/cgroup.subtree_control": "memory"}
    groups = open_groups(kernel, uid=0)
    assert (groups.reason, groups.level) == ("", "/")


def test_a_users_own_service_that_its_manager_delegates_is_divided() -> None:
    kernel = FakeKernel(OWN)
    kernel.delegated = {"carfs.service"}
    assert open_groups(kernel, uid=1000).reason == ""


def test_a_users_own_service_that_its_manager_does_not_delegate_is_left_alone() -> None:
    assert "is not delegated" in reason(FakeKernel(OWN), uid=1000)


def test_what_a_users_manager_says_of_a_unit_of_the_system_does_not_count() -> None:
    """Both may have a unit of that name."""
    kernel = FakeKernel(UNIT)
    kernel.delegated = {"carfs.service"}
    assert "is not delegated" in reason(kernel, uid=1000)


def test_without_the_memory_controller_nothing_is_moved() -> None:
    kernel = FakeKernel(UNIT, controllers="pids")
    kernel.marks[DELEGATED] = "1"
    assert "has no memory controller; put Delegate=memory in its unit" in reason(kernel)


def test_a_threaded_group_is_left_alone() -> None:
    kernel = FakeKernel(UNIT)
    kernel.marks[DELEGATED] = "1"
    kernel.files[f"{MOUNT}{UNIT}/cgroup.type"] = "domain threaded\n"
    assert "is domain threaded" in reason(kernel)


@pytest.mark.parametrize("name", ["", "/cgroup.subtree_control", "/agent/cgroup.procs"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_what_is_refused_half_way_is_undone(name: str, number: int) -> None:
    kernel = FakeKernel(UNIT, others=("101",))
    kernel.marks[DELEGATED] = "1"
    kernel.refusals[f"{MOUNT}{UNIT}{name}"] = number
    assert "cannot be divided: " in reason(kernel)


def test_a_process_that_ends_meanwhile_is_no_failure() -> None:
    class Ending(FakeKernel):
        def read(self, path: str) -> str:
            text = super().read(path)
            return f"4242\n{text}" if path.endswith("carfs.service/cgroup.procs") else text

    kernel = Ending(UNIT)
    kernel.marks[DELEGATED] = "1"
    assert open_groups(kernel, uid=0).reason == ""


def test_groups_can_be_turned_off() -> None:
    kernel = FakeKernel(UNIT)
    kernel.marks[DELEGATED] = "1"
    assert open_groups(kernel, setting="off").reason == "resources.child_groups is off"
    assert kernel.where(kernel.PID) == MOUNT + UNIT


def test_without_proc_there_is_a_reason() -> None:
    class Bare(FakeKernel):
        def read(self, path: str) -> str:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    groups = open_groups(Bare(UNIT))
    assert groups.reason.startswith("groups cannot be made here: ")
    assert not groups.make("1").limit(1)
