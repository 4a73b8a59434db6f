"""What is written to a worker's group on cgroup v2, and read from it."""

from __future__ import annotations

import errno

import pytest

from agent.workers.groups import Group, Groups, open_groups
from tests.agent.groups.kernel import MOUNT, FakeKernel

UNIT = f"{MOUNT}/system.slice/carfs.service"
MIB = 1 << 20


@pytest.fixture
def kernel() -> FakeKernel:
    made = FakeKernel("/system.slice/carfs.service", others=("101",))
    made.marks[UNIT, "user.delegate"] = "1"
    return made


@pytest.fixture
def groups(kernel: FakeKernel) -> Groups:
    return open_groups(kernel, uid=0)


def folder(group: Group) -> str:
    return f"{MOUNT}/{group.level}"


def values(kernel: FakeKernel, group: Group) -> dict[str, str]:
    names = ("max", "high", "swap.max", "oom.group")
    return {name: kernel.files[f"{folder(group)}/memory.{name}"] for name in names}


def test_a_limit_leaves_room_below_for_the_kernel_to_take_pages_back(
    kernel: FakeKernel, groups: Groups
) -> None:
    group = groups.make("1")
    assert group.limit(64 * MIB)
    expected = {"max": str(64 * MIB), "high": str(62 * MIB), "swap.max": "0", "oom.group": "1"}
    assert values(kernel, group) == expected


def test_a_share_of_it_may_be_in_swap(kernel: FakeKernel, groups: Groups) -> None:
    group = groups.make("1")
    group.limit(64 * MIB, 16 * MIB)
    assert values(kernel, group)["swap.max"] == str(16 * MIB)


def test_no_limit_takes_all_away(kernel: FakeKernel, groups: Groups) -> None:
    group = groups.make("1")
    assert group.limit(64 * MIB) and group.limit(0)
    assert set(values(kernel, group).values()) == {"max", "1"}


def test_a_process_is_taken_and_one_that_has_ended_is_told(kernel: FakeKernel, groups: Groups) -> None:
    group = groups.make("1")
    assert group.take(101)
    assert kernel.where("101") == folder(group)
    assert not group.take(4242)
    assert "had ended" in group.problem


def test_used_is_without_what_the_kernel_can_drop_and_with_what_is_to_be_written(
    kernel: FakeKernel, groups: Groups
) -> None:
    group = groups.make("1")
    kernel.files[f"{folder(group)}/memory.current"] = "1000"
    kernel.files[f"{folder(group)}/memory.stat"] = (
        "anon 300\nfile 900\nshmem 200\ninactive_file 400\nactive_file 300\nfile_dirty 50\nfile_writeback 10\n"
    )
    assert group.used() == 1000 - 400 - 150 + 60


def test_used_is_never_below_nothing(kernel: FakeKernel, groups: Groups) -> None:
    """The two files are read at different moments."""
    group = groups.make("1")
    kernel.files[f"{folder(group)}/memory.current"] = "100"
    kernel.files[f"{folder(group)}/memory.stat"] = "inactive_file 400\n"
    assert group.used() == 0


def test_a_limit_that_would_kill_at_once_is_refused(kernel: FakeKernel, groups: Groups) -> None:
    group = groups.make("1")
    kernel.files[f"{folder(group)}/memory.current"] = str(65 * MIB)
    assert not group.limit(64 * MIB)
    assert values(kernel, group)["max"] == "0"


def test_kills_and_peak_are_those_of_the_task(kernel: FakeKernel, groups: Groups) -> None:
    group = groups.make("1")
    kernel.files[f"{folder(group)}/memory.events"] = "oom 2\noom_kill 2\n"
    kernel.files[f"{folder(group)}/memory.peak"] = "700"
    group.limit(64 * MIB)
    assert (group.oom_kills(), group.peak()) == (0, 0)
    kernel.files[f"{folder(group)}/memory.events"] = "oom 3\noom_kill 3\n"
    kernel.files[f"{folder(group)}/memory.peak"] = "800"
    assert (group.oom_kills(), group.peak()) == (1, 800)


def test_a_group_that_was_killed_whole_counts_once(kernel: FakeKernel, groups: Groups) -> None:
    group = groups.make("1")
    kernel.files[f"{folder(group)}/memory.events"] = "oom 1\noom_kill 2\noom_group_kill 1\n"
    assert group.oom_kills() == 1
    # The unit's limit was lowered below what is used: the task took no more than was reserved for it.
    kernel.files[f"{folder(group)}/memory.events"] = "oom 0\noom_kill 2\noom_group_kill 1\n"
    assert group.oom_kills() == 0


def test_an_older_kernel_lacks_some_files(kernel: FakeKernel, groups: Groups) -> None:
    group = groups.make("1")
    for name in ("oom.group", "swap.max", "peak"):
        del kernel.files[f"{folder(group)}/memory.{name}"]
    assert group.limit(64 * MIB)
    assert group.peak() == 0


def test_what_is_left_in_a_group_is_ended_one_by_one_without_cgroup_kill(
    kernel: FakeKernel, groups: Groups
) -> None:
    group = groups.make("1")
    group.take(101)
    group.remove()
    assert kernel.killed == [101]


def test_what_could_not_be_removed_is_removed_with_the_next_make(kernel: FakeKernel, groups: Groups) -> None:
    group = groups.make("1")
    group.take(101)
    group.remove()
    assert folder(group) in kernel.groups
    kernel.groups[folder(group)].clear()
    groups.make("2")
    assert folder(group) not in kernel.groups


def test_a_group_that_cannot_be_made_is_none_with_a_reason(kernel: FakeKernel, groups: Groups) -> None:
    kernel.refusals[UNIT] = errno.EAGAIN
    group = groups.make("1")
    assert (group.level, group.limit(MIB), group.used()) == ("", False, 0)
    assert "could be made: Resource temporarily unavailable" in group.problem


def test_closing_removes_what_was_made(kernel: FakeKernel, groups: Groups) -> None:
    groups.make("1")
    groups.close()
    assert kernel.children(UNIT) == ["agent"]


@pytest.mark.parametrize("name", ["", "a/b", "a-b", "..", "x y"])
def test_a_name_is_letters_and_digits(groups: Groups, name: str) -> None:
    if name == "..":
        name = "../"
    with pytest.raises(ValueError, match="cannot be named"):
        groups.make(name)


def test_only_groups_of_the_dead_are_swept(kernel: FakeKernel) -> None:
    ours = open_groups(kernel, uid=0)
    group = ours.make("1")
    pid, started, namespace = group.level.rpartition("carfs-worker-")[2].split("-")[:3]
    kernel.files[f"/proc/{pid}/stat"] = kernel.files["/proc/self/stat"]
    kept = [
        f"carfs-worker-{pid}-{started}-{namespace}-2",  # of one that lives
        f"carfs-worker-4242-{started}-1-3",  # of a namespace in which we cannot see
        "carfs-worker-4242",
        "other",
    ]
    swept = [
        f"carfs-worker-4242-{started}-{namespace}-4",
        f"carfs-worker-{pid}-1-{namespace}-5",  # the pid is another process's now
    ]
    for name in (*kept, *swept):
        kernel.make(f"{UNIT}/{name}")
    open_groups(kernel, uid=0)
    assert set(kernel.children(UNIT)) == {"agent", group.level.rpartition("/")[2], *kept}
