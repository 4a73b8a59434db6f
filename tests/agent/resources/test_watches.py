"""The sources of events on the groups of this machine, and on what is not there."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from agent.resources.facts import Pressure, Snapshot
from agent.resources.monitor import GAP_S, Monitor, open_monitor
from agent.resources.watches import SOURCES, notices, stalls, writes
from agent.resources.watches.source import CannotWatch, Watch
from agent.resources.watches.watched import HOST_PRESSURE, V1Group, Watched, watched
from tests.agent.groups.parents import why_no_v1
from tests.agent.resources.snapshots import MIB, limited_to, memory_fact, snapshot_of
from tests.agent.waiting import until

DEADLINE_S = 20.0
LIMIT = "memory.limit_in_bytes"

V1 = Path("/sys/fs/cgroup/memory")
V2_MOUNTS = [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")]


def _made(parent: Path) -> Iterator[Path]:
    group = parent / f"carfs-test-live-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made below {parent}: {error}")
    try:
        yield group
    finally:
        if group.exists():
            group.rmdir()


@pytest.fixture
def v1_group() -> Iterator[Path]:
    """A memory group of 64 MiB."""
    if why_not := why_no_v1():
        pytest.skip(why_not)
    for group in _made(V1):
        (group / LIMIT).write_text(str(64 * MIB))
        yield group


@pytest.fixture
def v2_group() -> Iterator[Path]:
    """A group that has PSI."""
    mounted = [path for path in V2_MOUNTS if (path / "cgroup.controllers").exists()]
    if not mounted:
        pytest.skip("no cgroup v2 is mounted")
    for group in _made(mounted[0]):
        try:
            stalls.Stalls(str(group / "memory.pressure")).close()
        except OSError as error:
            pytest.skip(f"no PSI trigger can be set on a cgroup: {error}")
        yield group


@contextmanager
def child_in(group: Path, code: str) -> Iterator[subprocess.Popen[str]]:
    """A process in a group that runs `code` when it gets a line."""
    preamble = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\nprint(flush=True)\ninput()\n"
    with subprocess.Popen(
        [sys.executable, "-c", preamble + code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


async def fires(watch: Watch) -> bool:
    with trio.move_on_after(DEADLINE_S):
        await watch.wait()
        return True
    return False


async def is_quiet(watch: Watch) -> bool:
    """Nothing is there to be taken: `wait` comes to wait."""
    returned = False

    async def wait() -> None:
        nonlocal returned
        await watch.wait()
        returned = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked(0.02)
        nursery.cancel_scope.cancel()
    return not returned


def is_active(monitor: Monitor, source: str) -> bool:
    return any(one.source == source and one.is_active for one in monitor.watched())


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - Path.iterdir would hold one while it lists


def may_resource() -> bool:
    """Whether this process has CAP_SYS_RESOURCE."""
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("CapEff:")[2].split()[0], 16) >> 24 & 1)


def v1_reader(group: Path) -> Callable[[], Snapshot]:
    """The limits of one group, as the real reader would say them."""

    def read() -> Snapshot:
        try:
            limit = int((group / LIMIT).read_text())
            used = int((group / "memory.usage_in_bytes").read_text())
        except OSError:
            return snapshot_of()
        return snapshot_of(memory_fact(limit, used, directory=str(group), source="cgroup-v1"))

    return read


def test_the_places_to_watch_follow_from_the_facts() -> None:
    v1 = [memory_fact(limit, directory="/m/a", source="cgroup-v1") for limit in (300, 200)]
    unlimited = memory_fact(None, directory="/m", source="cgroup-v1")
    v2 = [memory_fact(100, directory="/u/a"), memory_fact(None, directory="/u")]
    assert watched(snapshot_of(*v1, unlimited, *v2, memory_fact(1, source="host"))) == Watched(
        ("/m/a/memory.limit_in_bytes", "/m/memory.limit_in_bytes", "/u/a/memory.max", "/u/memory.max"),
        ("/u/a", "/u"),
        (V1Group("/m/a", 200),),
        (),
    )
    assert watched(limited_to(1, full_10s=0)).pressure_files == (HOST_PRESSURE,)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_each_source_says_why_it_cannot_watch(source: object) -> None:
    gone = Watched(("/nowhere/x",), ("/nowhere",), (V1Group("/nowhere", MIB),), ("/nowhere/memory.pressure",))
    before = descriptors()
    for places in (Watched(), gone):
        with pytest.raises(CannotWatch, match=r"\w"):
            next(one for one in SOURCES if one is source).open(places)
    assert descriptors() == before


@pytest.mark.privileged
async def test_a_limit_that_another_process_writes_is_an_event(v1_group: Path) -> None:
    with closing(writes.open_watch(Watched((str(v1_group / LIMIT),)))) as watch:
        assert await is_quiet(watch)
        subprocess.run(["sh", "-c", f"echo 33554432 >{v1_group / LIMIT}"], check=True)
        assert await fires(watch)
        assert await is_quiet(watch)


@pytest.mark.privileged
async def test_a_group_of_v2_that_gets_its_first_process_is_an_event(v2_group: Path) -> None:
    with closing(writes.open_watch(Watched(v2_groups=(str(v2_group),)))) as watch:
        assert await is_quiet(watch)
        with child_in(v2_group, ""):
            assert await fires(watch)


@pytest.mark.privileged
async def test_use_that_nears_the_limit_of_v1_is_an_event(v1_group: Path) -> None:
    with (
        child_in(v1_group, "memory = bytearray(52 << 20)\ninput()") as child,
        closing(notices.open_watch(Watched(v1_groups=(V1Group(str(v1_group), 64 * MIB),)))) as watch,
    ):
        assert await is_quiet(watch)
        go(child)
        assert await fires(watch)


@pytest.mark.privileged
@pytest.mark.parametrize("open_watch", [writes.open_watch, notices.open_watch], ids=["writes", "notices"])
async def test_a_watch_on_a_group_of_v1_that_goes_does_not_spin(
    v1_group: Path, open_watch: Callable[[Watched], Watch]
) -> None:
    places = Watched((str(v1_group / LIMIT),), (), (V1Group(str(v1_group), 64 * MIB),))
    with closing(open_watch(places)) as watch:
        v1_group.rmdir()
        looks = 1
        while not await is_quiet(watch):
            looks += 1
            assert looks <= 7, "each of six eventfds may fire once as the group goes"


@pytest.mark.privileged
async def test_a_trigger_on_a_group_that_goes_says_so_and_does_not_spin(v2_group: Path) -> None:
    with closing(stalls.open_watch(Watched(pressure_files=(str(v2_group / "memory.pressure"),)))) as watch:
        assert await is_quiet(watch)
        v2_group.rmdir()
        with pytest.raises(CannotWatch, match="is gone"):
            await fires(watch)


@pytest.mark.privileged
async def test_tasks_that_wait_pull_the_trigger(v2_group: Path) -> None:
    """Of CPU, which a test can make scarce at will; the file of memory is the same to the kernel."""
    cpu = min(os.sched_getaffinity(0))
    busy = f"import os\nos.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    with closing(stalls.Stalls(str(v2_group / "cpu.pressure"))) as watch, ExitStack() as stack:
        assert await is_quiet(watch)
        for _ in range(3):
            go(stack.enter_context(child_in(v2_group, busy)))
        assert await fires(watch)


def test_where_a_group_takes_no_trigger_the_one_of_the_machine_is_used() -> None:
    """Without CAP_SYS_RESOURCE, too, as on a machine where only windows of 2 s are allowed."""
    places = Watched(pressure_files=("/nowhere/memory.pressure", HOST_PRESSURE))
    try:
        watch = stalls.open_watch(places)
    except CannotWatch as why:
        pytest.skip(str(why))
    with closing(watch):
        seconds = 1 if may_resource() else 2
        trigger = f"tasks that wait for 5 % of {seconds} s, by {HOST_PRESSURE}"
        assert watch.text == f"{trigger}; not by /nowhere/memory.pressure: No such file or directory"


@pytest.mark.privileged
async def test_w9_a_limit_of_v1_that_is_set_is_noticed_without_the_timer(v1_group: Path) -> None:
    before = descriptors()
    async with open_monitor(v1_reader(v1_group), interval_s=3600) as monitor:
        await until(lambda: is_active(monitor, "writes") and is_active(monitor, "notices"))
        changes = monitor.changes()
        (v1_group / LIMIT).write_text(str(32 * MIB))
        with trio.fail_after(DEADLINE_S):
            assert (await anext(changes)).memory.limit == 32 * MIB
        during = descriptors()
    assert descriptors() & during <= before, "every descriptor is closed"


@pytest.mark.privileged
async def test_a_monitor_of_a_group_that_goes_neither_spins_nor_ends(v1_group: Path) -> None:
    async with open_monitor(v1_reader(v1_group), interval_s=3600) as monitor:
        await until(lambda: is_active(monitor, "notices"))
        v1_group.rmdir()
        await until(lambda: not is_active(monitor, "notices") and not is_active(monitor, "writes"))
        with trio.fail_after(DEADLINE_S):
            await wait_all_tasks_blocked(2 * GAP_S)  # whoever spins does so once in a gap, or oftener
        assert monitor.snapshot() == snapshot_of()


@pytest.mark.privileged
async def test_a_trigger_on_a_group_that_goes_does_not_make_the_monitor_spin(v2_group: Path) -> None:
    pressure = Pressure(0, 0, "/", str(v2_group / "memory.pressure"))
    async with open_monitor(lambda: replace(limited_to(1), pressure=pressure), interval_s=3600) as monitor:
        await until(lambda: is_active(monitor, "stalls"))
        v2_group.rmdir()
        await until(lambda: not is_active(monitor, "stalls"))
        with trio.fail_after(DEADLINE_S):
            await wait_all_tasks_blocked(2 * GAP_S)
