"""`carfs worker`, `carfs resources`, `carfs status` and `carfs top --once`, against a scheduler of given values."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from agent.resources.facts import Bound
from agent.scheduler.tasks import Wait
from tests.agent.processes import Shell
from tests.agent.scheduling import (
    GIB,
    LIMIT,
    LOCAL,
    REMOTE,
    SNAPSHOT,
    FakeScheduler,
    running,
    waiting,
    worker,
)
from tests.agent.serving import served_at

RUNNING, WAITING = running(1), waiting(0x20)
REASON = "needs 512 MiB, headroom 310 MiB under system.slice/carfs.service memory.max"


class Carfs:
    """Runs `carfs` in a thread."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        return await trio.to_thread.run_sync(lambda: self._shell(*arguments))

    async def lines(self, *arguments: str) -> list[str]:
        """What it prints; it must succeed."""
        code, out, err = await self(*arguments)
        assert (code, err) == (0, "")
        return out.splitlines()


@asynccontextmanager
async def carfs_of(path: Path, scheduler: FakeScheduler) -> AsyncIterator[Carfs]:
    (path / "agent.sock").symlink_to("s")
    async with served_at(path, scheduler=scheduler):
        yield Carfs(Shell(path, path))


async def test_the_status_shows_limits_as_bars_with_what_binds_and_what_tasks_wait_for(
    tmp_path: Path,
) -> None:
    async with carfs_of(tmp_path, FakeScheduler((RUNNING, WAITING))) as carfs:
        out = await carfs.lines("status")
    (memory,) = [line for line in out if line.startswith("memory")]
    assert memory == (
        "memory    [█▓▓▓▓▓▓▓▓▓▓▓▓▓▓·········] 5.0 GiB of 8.0 GiB, 3.0 GiB left "
        "under system.slice/carfs.service memory.max"
    )
    assert (
        "pressure  memory: some tasks waited 1.5 %, all 0.2 % of the last 10 s, system.slice/carfs.service"
        in out
    )
    assert f"waiting   index shard-32: {REASON}" in out
    (line,) = [line for line in out if line.startswith("running")]
    assert line.startswith("running   index shard-1: 512 MiB of 1.0 GiB (50 %), ")
    assert line.endswith("memory 200 MiB of 512 MiB")


async def test_what_will_never_fit_says_that_limits_have_to_change(tmp_path: Path) -> None:
    hopeless = replace(WAITING, waiting=Wait("needs 9.0 GiB", is_hopeless=True))
    async with carfs_of(tmp_path, FakeScheduler((hopeless,))) as carfs:
        for command in (["status"], ["top", "--once"], ["worker", "jobs"]):
            out = await carfs.lines(*command)
            assert any("needs 9.0 GiB; limits have to change, or it waits for ever" in line for line in out)


async def test_the_status_of_many_tasks_is_short(tmp_path: Path) -> None:
    jobs = tuple(waiting(number, number) for number in range(1, 300))
    async with carfs_of(tmp_path, FakeScheduler(jobs)) as carfs:
        out = await carfs.lines("status")
        found = json.loads((await carfs("status", "--json"))[1])
    assert sum(line.startswith("waiting") for line in out) == 10
    assert "          and 289 more tasks (carfs worker jobs has all)" in out
    assert (found["Tasks"]["Waiting"], len(found["Tasks"]["Tasks"])) == (299, 20)


async def test_resources_say_what_binds_and_explain_it(tmp_path: Path) -> None:
    async with carfs_of(tmp_path, FakeScheduler()) as carfs:
        out = await carfs.lines("resources")
        explained = "\n".join(await carfs.lines("resources", "--explain"))
        found = json.loads((await carfs("resources", "--json"))[1])
    assert [line.split()[0] for line in out] == ["memory", "cpus", "processes", "pressure", "problems"]
    assert "cpus      4, by host sched_getaffinity" in out
    for fact in SNAPSHOT.facts:
        assert fact.name in explained and fact.file in explained
    assert "Permission denied" in explained
    assert "groups: each process is in a group of its own" in explained
    assert found["Memory"]["Headroom"] == 3 * GIB


async def test_bars_are_of_ascii_where_the_terminal_has_no_blocks(tmp_path: Path) -> None:
    (tmp_path / "agent.sock").symlink_to("s")
    async with served_at(tmp_path, scheduler=FakeScheduler((RUNNING,))):
        carfs = Carfs(Shell(tmp_path, tmp_path, PYTHONIOENCODING="ascii"))
        for command in (["status"], ["resources"], ["worker", "list"], ["top", "--once"]):
            assert any("[#===" in line or "[====" in line for line in await carfs.lines(*command))


async def test_jobs_have_lotus_columns(tmp_path: Path) -> None:
    async with carfs_of(tmp_path, FakeScheduler((RUNNING, WAITING))) as carfs:
        heading, first, second = await carfs.lines("worker", "jobs")
        found = json.loads((await carfs("worker", "jobs", "--json"))[1])
    assert heading.split() == ["ID", "SHARD", "WORKER", "HOSTNAME", "TASK", "STATE", "TIME", "PROGRESS"]
    assert first.split()[:6] == ["00000001", "shard-1", "6f5902ac", "agent-host", "index", "running"]
    assert "waiting(1)" in second and second.endswith(REASON)
    assert [one["ID"] for one in found] == [RUNNING.task.id, WAITING.task.id]


async def test_info_has_lotus_line_of_memory_and_swap(tmp_path: Path) -> None:
    views = (worker(RUNNING), worker(id=REMOTE, name="far", enabled=False, memory=GIB, memory_left=GIB))
    async with carfs_of(tmp_path, FakeScheduler((RUNNING,), views=views)) as carfs:
        out = await carfs.lines("worker", "info")
        far = await carfs.lines("worker", "info", REMOTE[:6])
        listed = await carfs.lines("worker", "list")
    assert "RAM:      5.0 GiB/8.0 GiB; Swap: 0 B/1.0 GiB" in out
    assert "Left:     3.0 GiB under system.slice/carfs.service memory.max" in out
    assert out[-1].startswith("running   index shard-1: ")
    assert {"Hostname: far", "Enabled:  no", "RAM:      0 B/1.0 GiB; Swap: 0 B/1.0 GiB"} <= set(far)
    assert [line for line in listed if line.startswith("Worker")] == [
        f"Worker {LOCAL}, host agent-host",
        f"Worker {REMOTE}, host far (disabled)",
    ]


async def test_s3_bars_take_any_numbers(tmp_path: Path) -> None:
    limits = replace(SNAPSHOT, memory=Bound(0, LIMIT, 0, LIMIT), pids=Bound(1, LIMIT, 5, LIMIT))
    view = worker(memory=0, memory_left=-GIB, swap=-1, swap_left=-2, cpus=0, running=worker(RUNNING).running)
    async with carfs_of(tmp_path, FakeScheduler((RUNNING,), limits, (view,))) as carfs:
        for command in (["status"], ["resources"], ["worker", "list"], ["worker", "info"], ["top", "--once"]):
            assert await carfs.lines(*command)


async def test_tasks_and_workers_are_steered_by_the_beginning_of_their_ids(tmp_path: Path) -> None:
    scheduler = FakeScheduler((RUNNING, WAITING))
    async with carfs_of(tmp_path, scheduler) as carfs:
        assert await carfs.lines("worker", "abort", "00000001") == ["Aborted index of shard-1"]
        assert await carfs.lines("worker", "abort", "00000020") == ["Aborted index of shard-32"]
        assert await carfs.lines("worker", "remove", WAITING.task.id) == ["Removed index of shard-32"]
        assert await carfs.lines("worker", "disable", LOCAL[:4]) == ["Disabled agent-host"]
        assert await carfs.lines("worker", "enable", LOCAL[:4]) == ["Enabled agent-host"]
    assert scheduler.told == [
        ("abort", RUNNING.task.id),
        ("remove", WAITING.task.id),
        ("remove", WAITING.task.id),
        ("disable", LOCAL),
        ("enable", LOCAL),
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["abort", "none"], 3, "there is no task with the ID 'none'"),
        (["abort", ""], 3, "there is no task"),
        (["abort", "000000"], 1, "2 tasks have IDs that begin with '000000'; give more of it"),
        (["remove", "00000001"], 4, "runs already"),
        (["disable", "none"], 3, "there is no worker"),
        (["info", "none"], 3, "there is no worker"),
        (["resources", "--all", "--default"], 2, "not both"),
    ],
)
async def test_what_is_refused_is_one_line_and_an_exit_code(
    tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    async with carfs_of(tmp_path, FakeScheduler((RUNNING, WAITING))) as carfs:
        found, out, err = await carfs("worker", *arguments)
    assert (found, out) == (code, "")
    assert message in err.splitlines()[-1]


async def test_the_queue_is_printed_as_lotus_does(tmp_path: Path) -> None:
    async with carfs_of(tmp_path, FakeScheduler((WAITING,))) as carfs:
        found = json.loads("\n".join(await carfs.lines("worker", "sched-diag")))
    assert [one["SchedId"] for one in found["SchedInfo"]["Requests"]] == [WAITING.task.id]


def test_variables_are_listed_and_malformed_ones_refused(tmp_path: Path) -> None:
    carfs = Shell(tmp_path, tmp_path, INDEX_32G_MAX_MEMORY="3GiB")
    assert carfs("worker", "resources")[:2] == (0, "INDEX_32G_MAX_MEMORY=3GiB\n")
    everything, default = (
        carfs("worker", "resources", flag)[1].splitlines() for flag in ("--all", "--default")
    )
    assert f"INDEX_32G_MAX_MEMORY={3 * GIB}" in everything
    assert f"INDEX_32G_MAX_MEMORY={3 * GIB}" not in default
    assert everything == sorted(everything) and len(everything) == len(default) > 50
    code, out, err = Shell(tmp_path, tmp_path, INDEX_MAX_MEMORY="lots")("worker", "resources")
    assert (code, out) == (1, "")
    assert err.startswith("carfs: INDEX_MAX_MEMORY=lots: ")


def test_the_limits_of_this_process_need_no_agent(tmp_path: Path) -> None:
    carfs = Shell(tmp_path / "none", tmp_path, CARFS_RESOURCES_MEMORY="64MiB")
    found = json.loads(carfs("resources", "--local", "--json")[1])
    assert (found["Memory"]["Limit"], found["Memory"]["LimitBy"]) == (64 << 20, "config resources.memory")
    code, out, err = carfs("resources", "--local", "--explain")
    assert (code, err) == (0, "")
    assert "resources.memory" in out and "/proc/meminfo" in out
    assert carfs("resources")[0] == 6
