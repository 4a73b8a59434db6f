"""What each captured machine must give; `captures/` has the files, and each says in its first line what it is."""

from __future__ import annotations

import pytest

from agent.resources.explaining import by
from agent.resources.facts import Mode
from tests.agent.resources.captured import MIB, NAMES, captured, said, what

HOST, LITTLE = "host MemTotal", 2_075_648_000  # of the guests
MEMORY = {
    "hybrid-namespace": (200 * MIB, "/ memory.limit_in_bytes"),
    "hybrid-namespace-old-mounts": (200 * MIB, "../../carfs.slice/carfs3.service memory.limit_in_bytes"),
    "hybrid-parent-only": (300 * MIB, "carfs.slice memory.limit_in_bytes"),
    "hybrid-unit-in-slice": (300 * MIB, "carfs.slice memory.limit_in_bytes"),
    "hybrid-unit-plain": (LITTLE, HOST),
    "legacy-namespace": (200 * MIB, "/ memory.limit_in_bytes"),
    "legacy-namespace-old-mounts": (200 * MIB, "../../carfs.slice/carfs3.service memory.limit_in_bytes"),
    "legacy-parent-only": (300 * MIB, "carfs.slice memory.limit_in_bytes"),
    "legacy-unit-in-slice": (300 * MIB, "carfs.slice memory.limit_in_bytes"),
    "legacy-unit-plain": (LITTLE, HOST),
    "v1-bind-mounted": (300 * MIB, "above carfs-test-capture/child hierarchical_memory_limit"),
    "v1-container": (256 * MIB, "/ memory.limit_in_bytes"),
    "v1-memsw": (200 * MIB, "carfs-test-capture/child memory.limit_in_bytes"),
    "v1-namespace": (300 * MIB, "above / hierarchical_memory_limit"),
    "v1-namespace-old-mounts": (300 * MIB, "../../carfs-test-capture memory.limit_in_bytes"),
    "v1-nested": (300 * MIB, "carfs-test-capture memory.limit_in_bytes"),
    "v1-parent-only": (300 * MIB, "carfs-test-capture memory.limit_in_bytes"),
    "v2-huge-pages": (40 * MIB, "carfs.slice/carfs5.service memory.max"),
    "v2-namespace": (200 * MIB, "/ memory.max"),
    "v2-namespace-old-mounts": (200 * MIB, "../../carfs.slice/carfs3.service memory.max"),
    "v2-parent-only": (300 * MIB, "carfs.slice memory.max"),
    "v2-unit-in-slice": (200 * MIB, "carfs.slice/carfs.service memory.high"),
    "v2-unit-plain": (LITTLE, HOST),
}
"""The limit of memory of each, and what sets it."""


def test_every_capture_is_here() -> None:
    assert sorted(MEMORY) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_limit_is_the_one_that_was_set(name: str) -> None:
    snapshot = captured(name).snapshot()
    assert (snapshot.memory.limit, by(snapshot.memory.limit_by)) == MEMORY[name]
    assert snapshot.memory.headroom is not None
    assert 0 < snapshot.memory.headroom < MEMORY[name][0]
    assert snapshot.problems == ()


@pytest.mark.parametrize("name", NAMES)
def test_the_mode_is_told(name: str) -> None:
    modes = {"v2": Mode.V2, "hybrid": Mode.HYBRID, "legacy": Mode.V1, "v1": Mode.HYBRID}
    assert captured(name).snapshot().mode is modes[name.partition("-")[0]]
    assert what(name).startswith(("v2", "hybrid", "legacy", "cgroup v1"))


@pytest.mark.parametrize("name", ["v2-unit-in-slice", "hybrid-unit-in-slice", "legacy-unit-in-slice"])
def test_w11_quotas_of_a_unit_are_read_on_every_hierarchy(name: str) -> None:
    snapshot = captured(name).snapshot()
    assert (snapshot.cpus.limit, snapshot.pids.limit) == (500, 100)
    assert said(snapshot, "RLIMIT_AS") == [(8 << 30, None)]


@pytest.mark.parametrize("name", ["v2-parent-only", "hybrid-parent-only", "legacy-parent-only"])
def test_w11_quotas_of_the_slice_alone_count(name: str) -> None:
    snapshot = captured(name).snapshot()
    assert (snapshot.cpus.limit, by(snapshot.cpus.limit_by).split()[0]) == (1500, "carfs.slice")
    assert (snapshot.pids.limit, by(snapshot.pids.limit_by)) == (500, "carfs.slice pids.max")


def test_w1_the_namespace_root_of_a_container_has_its_limit() -> None:
    snapshot = captured("v2-namespace").snapshot()
    assert [limit for limit, _ in said(snapshot, "memory.max", "/")] == [200 * MIB]


def test_w1_a_group_is_found_through_mounts_of_before_the_namespace() -> None:
    levels = [
        fact.level
        for fact in captured("v2-namespace-old-mounts").snapshot().facts
        if fact.name == "memory.max"
    ]
    assert levels == ["../../carfs.slice", "../../carfs.slice/carfs3.service"]


def test_a_group_that_cannot_be_found_is_a_problem() -> None:
    machine = captured("v2-namespace-old-mounts")
    lost = {path: "1\n" for path in machine.found if path.endswith("cgroup.procs")}
    snapshot = machine.but(lost).snapshot()
    assert (snapshot.mode, snapshot.memory.limit) == (Mode.V2, LITTLE)
    assert ["not its own" in one.message for one in snapshot.problems] == [True]


def test_w4_swap_of_a_real_group_is_both_less_memory() -> None:
    snapshot = captured("v1-memsw").snapshot()
    assert said(snapshot, "memory.memsw.limit_in_bytes", "carfs-test-capture/child")[1] == (150 * MIB, 0)
    assert (snapshot.swap.limit, by(snapshot.swap.limit_by)) == (0, "host SwapTotal")  # there is none


def test_w5_a_unit_that_may_not_swap() -> None:
    snapshot = captured("v2-unit-in-slice").snapshot()
    assert (snapshot.swap.limit, by(snapshot.swap.limit_by)) == (
        0,
        "carfs.slice/carfs.service memory.swap.max",
    )


def test_w10_pressure_of_a_unit_that_swaps() -> None:
    pressure = captured("v2-huge-pages").snapshot().pressure
    assert pressure is not None
    assert pressure.level == "carfs.slice/carfs5.service"
    assert pressure.full_10s > 0


def test_w14_huge_pages_of_a_real_machine_are_left_out() -> None:
    snapshot = captured("v2-huge-pages").snapshot()
    assert said(snapshot, "MemTotal")[0][0] == LITTLE - 64 * MIB
