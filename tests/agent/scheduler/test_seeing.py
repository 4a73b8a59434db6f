"""A worker as it is seen, from the limits of the moment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.resources.facts import Bound, Fact, Mode, Pressure, Resource, Snapshot
from agent.scheduler import seeing
from agent.scheduler.seeing import UNLIMITED, WorkerResources
from agent.scheduler.tasks import WorkerView
from tests.agent.scheduler.machines import BY, MIB, needs, running, task

GROUP = Fact(
    Resource.MEMORY, "cgroup-v2", "system.slice/carfs.service", "memory.max", "", 512 * MIB, 200 * MIB
)
HOST = Fact(Resource.MEMORY, "host", "host", "MemTotal", "/proc/meminfo", 1000 * MIB, 200 * MIB)
SNAPSHOT = Snapshot(
    mode=Mode.V2,
    facts=(GROUP,),
    problems=(),
    memory=Bound(512 * MIB, GROUP, 312 * MIB, GROUP),
    swap=Bound(100 * MIB, None, 60 * MIB, None),
    cpus=Bound(2500),
    pids=Bound(100, None, 90, None),
    pressure=None,
)


def seen(snapshot: Snapshot, **more: object) -> WorkerView:
    return seeing.view(id="w", name="host-w", kinds={"index"}, snapshot=snapshot, **more)  # type: ignore[arg-type]


def test_a_worker_has_what_its_limits_leave_less_the_reserve() -> None:
    one = running(task("t1", needs(10)))
    assert seen(SNAPSHOT, running=[one], disk_left=7, reserve=12 * MIB, enabled=False) == WorkerView(
        id="w", name="host-w", kinds=frozenset({"index"}), enabled=False,
        memory=512 * MIB, memory_left=300 * MIB, memory_by=BY, swap=100 * MIB, swap_left=60 * MIB,
        cpus=2, pids_left=90, disk_left=7, pressed="", running=(one,), kept_free=12 * MIB,
    )  # fmt: skip


def test_it_publishes_what_lotus_workers_publish() -> None:
    assert seeing.resources(SNAPSHOT) == WorkerResources(512 * MIB, 200 * MIB, 100 * MIB, 40 * MIB, 2)


def test_what_nothing_limits_is_no_limit_but_there_is_no_swap_and_one_cpu() -> None:
    nothing = replace(SNAPSHOT, memory=Bound(), swap=Bound(), cpus=Bound(), pids=Bound())
    view = seen(nothing, reserve=0)
    assert (view.memory, view.memory_left, view.pids_left) == (UNLIMITED,) * 3
    assert (view.swap, view.swap_left, view.cpus, view.memory_by) == (0, 0, 1, "no limit")
    assert seeing.resources(nothing) == WorkerResources(0, 0, 0, 0, 1)


def test_where_nobody_knows_what_is_used_the_limit_is_what_is_left() -> None:
    view = seen(replace(SNAPSHOT, memory=Bound(512 * MIB, GROUP)), reserve=0)
    assert (view.memory_left, view.memory_by) == (512 * MIB, BY)


def test_w8_a_reserve_of_more_than_there_is_leaves_nothing() -> None:
    assert seen(SNAPSHOT, reserve=1 << 50).memory_left == 0


def short(percent: float) -> Snapshot:
    """Little is left, and so much is waited for it."""
    return replace(
        SNAPSHOT,
        memory=Bound(512 * MIB, GROUP, 100 * MIB, GROUP),
        pressure=Pressure(99.0, percent, "system.slice", "memory.pressure"),
    )


def test_a_part_of_a_cpu_is_one_cpu() -> None:
    assert seen(replace(SNAPSHOT, cpus=Bound(500))).cpus == 1


@pytest.mark.parametrize(("percent", "is_pressed"), [(9.9, False), (10.0, True), (80.0, True)])
def test_where_all_wait_for_memory_a_worker_is_pressed(percent: float, is_pressed: bool) -> None:
    view = seen(short(percent), running=[running(task("t1", needs(10)))])
    assert bool(view.pressed) is is_pressed
    if is_pressed:
        assert view.pressed == (
            f"all wait for memory {percent:.0f} % of the time in system.slice; from 10 % on nothing is begun"
        )


def test_a_threshold_of_zero_is_none() -> None:
    assert not seen(short(99.0), pressure=0.0, running=[running(task("t1", needs(10)))]).pressed


def test_pressure_of_others_keeps_nobody_waiting_where_memory_is_not_short() -> None:
    """The machine's pressure is also that of a container which fights with its own limit."""
    one = running(task("t1", needs(10)))
    roomy = replace(
        SNAPSHOT, facts=(HOST, GROUP), pressure=Pressure(99.0, 99.0, "host", "/proc/pressure/memory")
    )
    assert not seen(roomy, running=[one]).pressed


def test_pressure_that_lasts_does_not_keep_all_from_beginning_for_ever() -> None:
    assert not seen(short(99.0)).pressed


@pytest.mark.parametrize(("used", "is_pressed"), [(399, False), (400, True)])
def test_where_the_kernel_slows_all_down_a_worker_is_pressed(used: int, is_pressed: bool) -> None:
    soft = replace(GROUP, name="memory.high", limit=400, used=used, is_soft=True)
    assert bool(seen(replace(SNAPSHOT, facts=(GROUP, soft))).pressed) is is_pressed


@pytest.mark.parametrize(("used", "is_pressed"), [(899, False), (901, True)])
def test_the_machines_pressure_counts_where_the_machine_itself_is_short(used: int, is_pressed: bool) -> None:
    """On cgroup v1 there is no other: a neighbour that fights with its own limit is in it."""
    full = replace(short(99.0), facts=(replace(HOST, used=used * MIB), GROUP))
    pressed = replace(full, pressure=Pressure(99.0, 50.0, "host", "/proc/pressure/memory"))
    assert bool(seen(pressed, running=[running(task("t1", needs(10)))]).pressed) is is_pressed
    assert not seen(pressed).pressed
