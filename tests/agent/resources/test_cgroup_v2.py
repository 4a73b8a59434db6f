"""cgroup v2, by hand: what single files of groups make of the whole. Captured machines are in test_captures.py."""

from __future__ import annotations

from agent.resources.facts import Mode, Resource
from agent.resources.settings import ResourcesConfig
from tests.agent.resources.captured import GIB, MIB, GivenFiles, host, of, said, v2_group, v2_machine

STAT = "anon 0\nfile {file}\nshmem {shmem}\ninactive_file {inactive}\nactive_file {active}\n"


def test_w1_the_top_of_a_private_namespace_has_limits() -> None:
    snapshot = v2_machine(
        "/", v2_group("", memory_max=str(512 * MIB), memory_current=str(100 * MIB))
    ).snapshot()
    assert snapshot.mode is Mode.V2
    assert (snapshot.memory.limit, snapshot.memory.headroom) == (512 * MIB, 412 * MIB)
    assert snapshot.memory.limit_by is not None
    assert (snapshot.memory.limit_by.level, snapshot.memory.limit_by.name) == ("/", "memory.max")


def test_w1_every_group_between_counts() -> None:
    groups = [
        v2_group(f, memory_max=str(m * MIB))
        for f, m in (("", 900), ("/a", 300), ("/a/b", 700), ("/a/b/c", 800))
    ]
    snapshot = v2_machine("/a/b/c", *groups).snapshot()
    assert [limit for limit, _ in said(snapshot, "memory.max")] == [
        900 * MIB,
        300 * MIB,
        700 * MIB,
        800 * MIB,
    ]
    assert snapshot.memory.limit == 300 * MIB


def test_w5_no_swap_at_all_is_a_limit_and_max_is_none() -> None:
    forbidden = v2_machine("/", v2_group("", memory_swap_max="0")).snapshot()
    assert (forbidden.swap.limit, forbidden.swap.headroom) == (0, 0)
    assert forbidden.swap.limit_by is not None
    assert forbidden.swap.limit_by.name == "memory.swap.max"
    unlimited = v2_machine("/", v2_group("", memory_swap_max="max")).snapshot()
    assert said(unlimited, "memory.swap.max") == [(None, 0)]
    assert unlimited.swap.limit == GIB  # the machine's


def test_w5_a_missing_file_is_no_limit_either() -> None:
    group = v2_group("", memory_max=str(MIB))
    del group["/sys/fs/cgroup/memory.swap.max"], group["/sys/fs/cgroup/memory.swap.high"]
    snapshot = v2_machine("/", group).snapshot()
    assert said(snapshot, "memory.swap.max") == []
    assert (snapshot.swap.limit, snapshot.memory.limit, snapshot.problems) == (GIB, MIB, ())


def test_w6_siblings_that_fill_the_parent_leave_little() -> None:
    parent = v2_group("/p", memory_max=str(500 * MIB), memory_current=str(480 * MIB), memory_swap_max=str(100 * MIB),
                      memory_swap_current=str(90 * MIB))  # fmt: skip
    own = v2_group("/p/own", memory_max=str(300 * MIB), memory_current=str(50 * MIB), memory_swap_max=str(50 * MIB),
                   memory_swap_current="0")  # fmt: skip
    snapshot = v2_machine("/p/own", v2_group(""), parent, own).snapshot()
    assert (snapshot.memory.limit, snapshot.memory.headroom) == (300 * MIB, 20 * MIB)
    assert (snapshot.swap.limit, snapshot.swap.headroom) == (50 * MIB, 10 * MIB)
    assert snapshot.memory.headroom_by is not None
    assert snapshot.memory.headroom_by.level == "p"


def test_w7_shared_memory_dirty_and_locked_pages_stay_used() -> None:
    # 400 MiB: 50 anonymous, 200 of tmpfs, 20 locked, 110 of inactive and 20 of active file pages, of which 30 are dirty
    stat = STAT.format(file=350 * MIB, shmem=200 * MIB, inactive=110 * MIB, active=20 * MIB)
    stat += f"unevictable {20 * MIB}\nslab_reclaimable 0\nfile_dirty {25 * MIB}\nfile_writeback {5 * MIB}\n"
    group = v2_group("", memory_max=str(500 * MIB), memory_current=str(400 * MIB), memory_stat=stat)
    (used,) = [used for _, used in said(v2_machine("/", group).snapshot(), "memory.max")]
    assert used == (400 - 110 - 20 // 2 + 30) * MIB


def test_w7_reclaimable_slab_counts_by_half() -> None:
    stat = f"inactive_file 0\nslab_reclaimable {40 * MIB}\n"
    group = v2_group("", memory_max=str(500 * MIB), memory_current=str(100 * MIB), memory_stat=stat)
    assert said(v2_machine("/", group).snapshot(), "memory.max") == [(500 * MIB, 80 * MIB)]


def test_w8_files_of_different_instants_never_make_a_number_wrap() -> None:
    stat = STAT.format(file=GIB, shmem=0, inactive=GIB, active=0)  # more than memory.current, read before
    group = v2_group("", memory_max=str(500 * MIB), memory_current=str(100 * MIB), memory_stat=stat)
    snapshot = v2_machine("/", group).snapshot()
    assert said(snapshot, "memory.max") == [(500 * MIB, 0)]
    assert snapshot.memory.headroom == 500 * MIB
    over = v2_group("", memory_max=str(50 * MIB), memory_current=str(100 * MIB))
    assert v2_machine("/", over).snapshot().memory.headroom == 0
    written = v2_group("", memory_max=str(500 * MIB), memory_current=str(100 * MIB),
                       memory_stat=f"inactive_file 5\nfile_dirty {GIB}\n")  # fmt: skip
    assert said(v2_machine("/", written).snapshot(), "memory.max") == [(500 * MIB, 100 * MIB)]


def test_w10_the_soft_limit_counts_and_is_said_to_be_soft() -> None:
    group = v2_group("", memory_max=str(900 * MIB), memory_high=str(200 * MIB), memory_current=str(150 * MIB),
                     memory_swap_high=str(10 * MIB))  # fmt: skip
    snapshot = v2_machine("/", group).snapshot()
    assert (snapshot.memory.limit, snapshot.memory.headroom) == (200 * MIB, 50 * MIB)
    assert snapshot.memory.limit_by is not None
    assert (snapshot.memory.limit_by.name, snapshot.memory.limit_by.is_soft) == ("memory.high", True)
    assert snapshot.swap.limit == 10 * MIB


def test_w10_pressure_is_that_of_the_tightest_level() -> None:
    parent = v2_group("/p", memory_max=str(500 * MIB), memory_current=str(490 * MIB),
                      memory_pressure="some avg10=40.00 avg60=1.00 avg300=0.50 total=1\nfull avg10=12.50 avg60=1.00 "
                                      "avg300=0.50 total=1\n")  # fmt: skip
    own = v2_group(
        "/p/own", memory_max=str(300 * MIB), memory_pressure="some avg10=0.00 avg60=0.00 total=0\n"
    )
    pressure = v2_machine("/p/own", v2_group(""), parent, own).snapshot().pressure
    assert pressure is not None
    assert (pressure.some_10s, pressure.full_10s, pressure.level) == (40.0, 12.5, "p")


def test_w10_pressure_is_the_machines_where_the_machine_is_tightest() -> None:
    own = v2_group("", memory_pressure="some avg10=99.00 avg60=0.00 total=0\n")
    pressure = v2_machine("/", own).snapshot().pressure
    assert pressure is not None
    assert (pressure.some_10s, pressure.full_10s, pressure.level) == (1.5, 0.5, "host")


def test_a_kernel_without_psi_says_nothing_of_pressure() -> None:
    files = v2_machine("/", v2_group("")).but({"/proc/pressure/memory": 2})
    assert files.snapshot().pressure is None
    assert files.snapshot().problems == ()


def test_w11_quotas_of_cpus_and_processes_count_at_every_level() -> None:
    parent = v2_group("/p", cpu_max="150000 100000", pids_max="50", pids_current="48")
    own = v2_group(
        "/p/own", cpu_max="max 100000", cpuset_cpus_effective="0-1\n", pids_max="20", pids_current="2"
    )
    snapshot = v2_machine("/p/own", v2_group(""), parent, own).snapshot()
    assert snapshot.cpus.limit == 1500
    assert snapshot.cpus.limit_by is not None
    assert snapshot.cpus.limit_by.level == "p"
    assert said(snapshot, "cpuset.cpus.effective") == [(2000, None)]
    assert (snapshot.pids.limit, snapshot.pids.headroom) == (20, 2)


def test_w11_affinity_counts() -> None:
    status = "Uid:\t1000\nCpus_allowed_list:\t0,2-3\n"
    assert GivenFiles(host() | {"/proc/self/status": status}).snapshot().cpus.limit == 3000


def test_w12_a_level_that_fails_is_a_problem_and_the_others_count() -> None:
    groups = [
        v2_group("", memory_max=str(300 * MIB)),
        v2_group("/a"),
        v2_group("/a/b", memory_max=str(900 * MIB)),
    ]
    machine = v2_machine("/a/b", *groups).but({"/sys/fs/cgroup/a/memory.max": 13})  # EACCES
    snapshot = machine.snapshot()
    assert snapshot.memory.limit == 300 * MIB
    assert [(one.file, one.message) for one in snapshot.problems] == [
        ("/sys/fs/cgroup/a/memory.max", "Permission denied")
    ]


def test_w12_a_level_that_is_gone_is_a_problem_and_the_others_count() -> None:
    snapshot = v2_machine("/a/b", v2_group("", memory_max=str(300 * MIB))).snapshot()
    assert snapshot.memory.limit == 300 * MIB
    assert [one.file for one in snapshot.problems] == ["/sys/fs/cgroup/a", "/sys/fs/cgroup/a/b"]


def test_w12_usage_that_cannot_be_read_is_that_of_our_processes_at_least() -> None:
    machine = v2_machine("/", v2_group("", memory_max=str(300 * MIB))).but(
        {"/sys/fs/cgroup/memory.current": 5}
    )
    snapshot = machine.snapshot()
    assert said(snapshot, "memory.max") == [(300 * MIB, 41 * MIB)]
    assert [one.file for one in snapshot.problems] == ["/sys/fs/cgroup/memory.current"]


def test_a_group_without_the_memory_controller_is_no_problem() -> None:
    leaf: dict[str, str | int] = {
        "/sys/fs/cgroup/a/cgroup.type": "domain",
        "/sys/fs/cgroup/a/cgroup.controllers": "cpu pids\n",
    }
    snapshot = v2_machine("/a", v2_group("", memory_max=str(300 * MIB)), leaf).snapshot()
    assert snapshot.problems == ()
    assert snapshot.memory.limit == 300 * MIB
    assert "not enabled" in of(snapshot, Resource.MEMORY)[-3].note


def test_w14_huge_pages_are_not_ordinary_memory() -> None:
    snapshot = GivenFiles(host(8 * GIB, 5 * GIB, Hugetlb=2 * GIB)).snapshot()
    assert (snapshot.memory.limit, snapshot.memory.headroom) == (6 * GIB, 5 * GIB)
    assert snapshot.memory.limit_by is not None
    assert snapshot.memory.limit_by.note == "2048 MiB are set aside as huge pages"


def test_w14_huge_pages_of_a_kernel_that_tells_their_number_alone() -> None:
    machine = GivenFiles(host(8 * GIB, 5 * GIB))
    meminfo = str(machine.found["/proc/meminfo"]).replace("Hugetlb:", "x:")
    meminfo += "HugePages_Total:    1024\nHugepagesize:       2048 kB\n"
    assert machine.but({"/proc/meminfo": meminfo}).snapshot().memory.limit == 6 * GIB


def test_w14_compressed_swap_is_used_memory_and_is_said() -> None:
    machine = GivenFiles(host(8 * GIB, 5 * GIB, Zswap=100 * MIB))
    (fact,) = [fact for fact in of(machine.snapshot(), Resource.MEMORY) if fact.name == "MemTotal"]
    assert (fact.used, fact.note) == (3 * GIB, "100 MiB hold compressed pages of swap (zswap), as used")
    group = v2_group(
        "", memory_max=str(500 * MIB), memory_current=str(400 * MIB), memory_stat=f"zswap {70 * MIB}\n"
    )
    (fact,) = [
        one for one in of(v2_machine("/", group).snapshot(), Resource.MEMORY) if one.name == "memory.max"
    ]
    assert (fact.used, fact.note) == (400 * MIB, "70 MiB hold compressed pages of swap (zswap), as used")


def test_w14_resource_limits_count() -> None:
    limits = (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max data size             536870912            unlimited            bytes     \n"
        "Max processes             50                   100                  processes \n"
        "Max address space         1073741824           unlimited            bytes     \n"
    )
    snapshot = GivenFiles(host() | {"/proc/self/limits": limits}).snapshot()
    assert said(snapshot, "RLIMIT_AS") == [(GIB, None)]
    assert (snapshot.memory.limit, snapshot.memory.headroom) == (512 * MIB, 512 * MIB)
    assert snapshot.pids.limit == 50
    root = "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\nCpus_allowed_list:\t0-3\n"
    unbound = GivenFiles(host() | {"/proc/self/limits": limits, "/proc/self/status": root}).snapshot()
    assert said(unbound, "RLIMIT_NPROC") == [(None, None)]


def test_w14_what_was_promised_counts_where_the_kernel_keeps_its_promises() -> None:
    machine = GivenFiles(host(CommitLimit=2 * GIB, Committed_AS=GIB))
    assert machine.snapshot().memory.limit == 8 * GIB
    strict = machine.but({"/proc/sys/vm/overcommit_memory": "2\n"}).snapshot()
    assert (strict.memory.limit, strict.memory.headroom) == (2 * GIB, GIB)


def test_available_memory_is_estimated_for_a_kernel_that_does_not_tell_it() -> None:
    meminfo = "MemTotal: 1000 kB\nMemFree: 300 kB\nBuffers: 100 kB\nCached: 200 kB\nShmem: 100 kB\nSwapTotal: 0 kB\n"
    snapshot = GivenFiles(host() | {"/proc/meminfo": meminfo}).snapshot()
    assert (snapshot.memory.limit, snapshot.memory.headroom) == (1000 << 10, 400 << 10)


def test_a_process_that_was_moved_is_seen_where_it_is() -> None:
    groups = [v2_group("/a", memory_max=str(300 * MIB)), v2_group("/b", memory_max=str(200 * MIB))]
    machine = v2_machine("/a", v2_group(""), *groups)
    assert machine.snapshot().memory.limit == 300 * MIB
    machine.found["/proc/self/cgroup"] = "0::/b\n"
    assert machine.snapshot().memory.limit == 200 * MIB


def test_another_process_is_read_by_its_number() -> None:
    from agent.resources.reading import read

    machine = v2_machine(
        "/a", v2_group(""), v2_group("/a", memory_max=str(300 * MIB)), v2_group("/b", memory_max="5")
    )
    other = {
        name.replace("self", "77"): found
        for name, found in machine.found.items()
        if name.startswith("/proc/self")
    }
    files = machine.but(other | {"/proc/77/cgroup": "0::/b\n"})
    assert read(files, ResourcesConfig(), pid=77).memory.limit == 5
    assert read(files, ResourcesConfig()).memory.limit == 300 * MIB


def test_nothing_mounted_leaves_the_machine_and_the_process() -> None:
    snapshot = GivenFiles(host()).snapshot()
    assert snapshot.mode is Mode.NONE
    assert (snapshot.memory.limit, snapshot.memory.headroom) == (8 * GIB, 6 * GIB)
    assert (snapshot.pids.limit, snapshot.pids.headroom) == (60000, 59800)
    assert snapshot.problems == ()


def test_a_machine_that_shows_nothing_at_all_limits_nothing_and_says_so() -> None:
    snapshot = GivenFiles({}).snapshot()
    assert snapshot.memory.limit is None
    assert {one.file for one in snapshot.problems} >= {
        "/proc/meminfo",
        "/proc/self/cgroup",
        "/proc/self/limits",
    }


def test_a_hierarchy_that_is_not_mounted_is_a_problem() -> None:
    """`InaccessiblePaths=/sys/fs/cgroup` in a unit: its limits hold all the same."""
    files = host() | {"/proc/self/cgroup": "0::/system.slice/carfs.service\n", "/proc/self/mountinfo": "-\n"}
    snapshot = GivenFiles(files).snapshot()
    assert snapshot.mode is Mode.NONE
    assert [one.message for one in snapshot.problems] == ["the memory controller is on v2, and not mounted"]


def test_the_pressure_of_the_machines_top_group_is_the_machines() -> None:
    psi = "some avg10=3.00 avg60=0.00 avg300=0.00 total=1\n"
    top: dict[str, str | int] = {"/sys/fs/cgroup/memory.pressure": psi, "/proc/pressure/memory": psi}
    found = v2_machine("/", top).snapshot().pressure
    assert found is not None
    assert (found.level, found.file) == ("host", "/proc/pressure/memory")


def test_where_the_machines_pressure_is_hidden_the_own_groups_is_told() -> None:
    psi = "some avg10=3.00 avg60=0.00 avg300=0.00 total=1\n"
    group = v2_group("/a", memory_pressure=psi)
    found = v2_machine("/a", v2_group(""), group).but({"/proc/pressure/memory": 2}).snapshot().pressure
    assert found is not None
    assert (found.level, found.some_10s) == ("a", 3.0)
