"""cgroup v1, by hand: what single files of groups make of the whole. Captured machines are in test_captures.py."""

from __future__ import annotations

from agent.resources.facts import Mode
from tests.agent.resources.captured import GIB, MIB, GivenFiles, host, said, v2_group

UNLIMITED = 9223372036854771712
MOUNTS = "".join(
    f"{number} 31 0:{number} / /sys/fs/cgroup/{names} rw - cgroup cgroup rw,{names}\n"
    for number, names in ((32, "memory"), (33, "cpu,cpuacct"), (34, "pids"), (35, "cpuset"))
)


def group(
    name: str, limit: int, usage: int = 0, *, both: int | None = None, both_usage: int = 0, stat: str = ""
) -> dict[str, str | int]:
    """The files of a group; without `both` those of a kernel that does not count swap."""
    folder = f"/sys/fs/cgroup/memory{name}"
    files: dict[str, str | int] = {
        f"{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"{folder}/memory.usage_in_bytes": f"{usage}\n",
        f"{folder}/memory.stat": stat or "total_inactive_file 0\n",
        f"{folder}/memory.use_hierarchy": "1\n",
    }
    if both is not None:
        files[f"{folder}/memory.memsw.limit_in_bytes"] = f"{both}\n"
        files[f"{folder}/memory.memsw.usage_in_bytes"] = f"{both_usage}\n"
    return files


def machine(path: str, *groups: dict[str, str | int], mounts: str = MOUNTS, more: str = "") -> GivenFiles:
    found = host() | {
        "/proc/self/cgroup": f"4:memory:{path}\n3:pids:/\n2:cpu,cpuacct:/\n{more}",
        "/proc/self/mountinfo": mounts,
        "/sys/fs/cgroup/pids/tasks": "",
        "/sys/fs/cgroup/cpu,cpuacct/tasks": "",
    }
    for one in groups:
        found |= one
    return GivenFiles(found)


def test_w3_groups_above_count() -> None:
    files = machine("/a/b", group("", UNLIMITED), group("/a", 300 * MIB), group("/a/b", 900 * MIB))
    snapshot = files.snapshot()
    assert snapshot.mode is Mode.V1
    assert [limit for limit, _ in said(snapshot, "memory.limit_in_bytes")] == [None, 300 * MIB, 900 * MIB]
    assert snapshot.memory.limit == 300 * MIB


def test_w3_groups_out_of_sight_count_by_the_sum_that_the_own_one_has() -> None:
    stat = f"hierarchical_memory_limit {300 * MIB}\nhierarchical_memsw_limit {400 * MIB}\n"
    own = group("", 900 * MIB, 100 * MIB, both=UNLIMITED, both_usage=130 * MIB, stat=stat)
    snapshot = machine("/", own).snapshot()
    assert said(snapshot, "hierarchical_memory_limit", "above /") == [(300 * MIB, 100 * MIB)]
    assert (snapshot.memory.limit, snapshot.memory.headroom) == (300 * MIB, 200 * MIB)
    assert said(snapshot, "hierarchical_memsw_limit")[1] == (100 * MIB, 30 * MIB)  # of swap


def test_w3_what_can_be_dropped_is_counted_with_the_groups_below() -> None:
    stat = f"inactive_file {99 * MIB}\ntotal_inactive_file {40 * MIB}\ntotal_active_file {20 * MIB}\n"
    stat += f"total_dirty {4 * MIB}\ntotal_writeback {MIB}\n"
    snapshot = machine("/", group("", 300 * MIB, 200 * MIB, stat=stat)).snapshot()
    assert said(snapshot, "memory.limit_in_bytes") == [(300 * MIB, (200 - 40 - 10 + 5) * MIB)]


def test_w3_groups_above_do_not_count_where_the_kernel_does_not_count_them() -> None:
    above = group("/a", 300 * MIB) | {"/sys/fs/cgroup/memory/a/memory.use_hierarchy": "0\n"}
    snapshot = machine("/a/b", group("", UNLIMITED), above, group("/a/b", 900 * MIB)).snapshot()
    assert snapshot.memory.limit == 900 * MIB


def test_w4_swap_is_both_less_memory() -> None:
    own = group("", 300 * MIB, 250 * MIB, both=500 * MIB, both_usage=330 * MIB)
    snapshot = machine("/", own).snapshot()
    assert said(snapshot, "memory.memsw.limit_in_bytes") == [
        (500 * MIB, 330 * MIB),  # of memory
        (200 * MIB, 80 * MIB),  # of swap
    ]
    assert (snapshot.swap.limit, snapshot.swap.headroom) == (200 * MIB, 120 * MIB)


def test_w4_what_was_swapped_out_leaves_less_of_both_for_memory() -> None:
    own = group("", 300 * MIB, 100 * MIB, both=320 * MIB, both_usage=290 * MIB)
    snapshot = machine("/", own).snapshot()
    assert (snapshot.memory.limit, snapshot.memory.headroom) == (300 * MIB, 30 * MIB)


def test_w4_both_limits_alike_leave_no_swap() -> None:
    assert machine("/", group("", 300 * MIB, both=300 * MIB)).snapshot().swap.limit == 0


def test_w4_unlimited_is_no_limit_of_swap() -> None:
    snapshot = machine("/", group("", 300 * MIB, both=UNLIMITED, both_usage=7)).snapshot()
    assert said(snapshot, "memory.memsw.limit_in_bytes") == [(None, 7)]
    assert snapshot.swap.limit == GIB


def test_w4_without_swap_accounting_memory_counts_all_the_same() -> None:
    snapshot = machine("/", group("", 300 * MIB, 100 * MIB)).snapshot()
    assert (snapshot.memory.limit, snapshot.memory.headroom) == (300 * MIB, 200 * MIB)
    assert (snapshot.swap.limit, snapshot.problems) == (GIB, ())


def test_w8_counters_of_different_instants_never_make_a_number_wrap() -> None:
    own = group(
        "", 300 * MIB, 100 * MIB, both=400 * MIB, both_usage=90 * MIB, stat=f"total_inactive_file {GIB}\n"
    )
    snapshot = machine("/", own).snapshot()
    assert (snapshot.memory.headroom, snapshot.swap.headroom) == (300 * MIB, 100 * MIB)


def test_w11_quotas_of_cpus_and_processes_count() -> None:
    quotas: dict[str, str | int] = {
        "/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "50000\n",
        "/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
        "/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1\n",
        "/sys/fs/cgroup/pids/a/pids.max": "30\n",
        "/sys/fs/cgroup/pids/a/pids.current": "10\n",
        "/sys/fs/cgroup/pids/a/b/pids.max": "max\n",
        "/sys/fs/cgroup/cpuset/a/cpuset.effective_cpus": "0-2\n",
    }
    files = machine("/", group("", UNLIMITED), quotas)
    files.found["/proc/self/cgroup"] = "4:memory:/\n3:pids:/a/b\n2:cpu,cpuacct:/a/b\n5:cpuset:/a\n"
    snapshot = files.snapshot()
    assert said(snapshot, "cpu.cfs_quota_us") == [(500, None), (None, None)]
    assert said(snapshot, "cpuset.effective_cpus") == [(3000, None)]
    assert (snapshot.cpus.limit, snapshot.pids.limit, snapshot.pids.headroom) == (500, 30, 20)


def test_w12_a_level_that_fails_is_a_problem_and_the_others_count() -> None:
    files = machine("/a/b", group("", UNLIMITED), group("/a", 300 * MIB), group("/a/b", 900 * MIB))
    snapshot = files.but({"/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": 13}).snapshot()
    assert snapshot.memory.limit == 300 * MIB
    assert [one.file for one in snapshot.problems] == ["/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes"]


def test_w12_the_sum_stands_in_for_a_limit_that_cannot_be_read() -> None:
    own = group("", 900 * MIB, 10 * MIB, stat=f"hierarchical_memory_limit {200 * MIB}\n")
    snapshot = machine("/", own).but({"/sys/fs/cgroup/memory/memory.limit_in_bytes": "junk"}).snapshot()
    assert snapshot.memory.limit == 200 * MIB


def test_memory_on_v1_beside_a_v2_without_controllers_is_hybrid() -> None:
    unified = "41 31 0:41 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    files = machine(
        "/a", group("", UNLIMITED), group("/a", 300 * MIB), mounts=MOUNTS + unified, more="0::/a\n"
    )
    files = files.but({
        "/sys/fs/cgroup/unified/cgroup.controllers": "hugetlb\n",
        "/sys/fs/cgroup/unified/a/memory.pressure": "some avg10=7.00 avg60=0.00 total=0\n",
    })  # fmt: skip
    snapshot = files.snapshot()
    assert (snapshot.mode, snapshot.memory.limit) == (Mode.HYBRID, 300 * MIB)
    assert snapshot.pressure is not None  # of the same processes, in their group on v2
    assert (snapshot.pressure.some_10s, snapshot.pressure.level) == (7.0, "a")


def test_where_v1_and_v2_both_have_limits_the_smaller_counts() -> None:
    unified = "41 31 0:41 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    v1 = group("/a", 300 * MIB)
    for limit in (200 * MIB, 400 * MIB):
        v2 = v2_group("/a", memory_max=str(limit)) | {"/sys/fs/cgroup/cgroup.controllers": "memory\n"}
        files = machine("/a", group("", UNLIMITED), v1, v2, mounts=unified + MOUNTS, more="0::/a\n")
        assert files.snapshot().memory.limit == min(limit, 300 * MIB)


def test_memory_on_v1_that_is_mounted_nowhere_is_a_problem() -> None:
    snapshot = machine("/a", mounts="").snapshot()
    assert snapshot.mode is Mode.NONE
    assert "not mounted" in snapshot.problems[0].message
