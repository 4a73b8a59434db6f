"""Worker processes: a result, an error or a death, always exactly one, and no process left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from agent.dagstore.failures import ErrorClass
from agent.scheduler.requirement import Requirement
from agent.scheduler.tasks import Task
from agent.workers import WorkerDied, WorkerFailed
from agent.workers.messages import MAX_LINE_BYTES, LineBuffer, decode, encode
from tests.agent.cars import write_broken_car, write_car
from tests.agent.machines import working
from tests.conftest import ExpectWarning
from tests.fixtures import REPOSITORY


def task(tmp_path: Path, path: Path) -> dict[str, Any]:
    return {"path": str(path), "scratch": str(tmp_path / "scratch"), "out": str(tmp_path / "out.idx")}


def a_task(kind: str) -> Task:
    return Task("1", kind, "x", 0, 0, Requirement(0, 0), 1, 0.0)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_task_gives_its_result_and_its_worker_is_used_again(tmp_path: Path) -> None:
    path = write_car(tmp_path / "x.car")
    async with working(limit=2) as pool:
        first = await pool.run("index", task(tmp_path, path))
        (pid,) = pool.pids
        assert (first["blocks"], first["name"]) == (3, "out.idx")
        await pool.run("index", task(tmp_path, path))
        assert pool.pids == (pid,)
    assert not is_running(pid)


@pytest.mark.parametrize(
    ("make", "error_class"),
    [
        (write_broken_car, ErrorClass.CORRUPT),
        (lambda path: path, ErrorClass.GONE),
        (Path.mkdir, ErrorClass.INVALID),
    ],
)
async def test_a_task_that_fails_says_why_and_its_worker_lives_on(
    tmp_path: Path, make: Any, error_class: ErrorClass
) -> None:
    make(tmp_path / "x.car")
    async with working(limit=1) as pool:
        with pytest.raises(WorkerFailed, match=r"x\.car") as raised:
            await pool.run("index", task(tmp_path, tmp_path / "x.car"))
        assert raised.value.error_class is error_class
        assert pool.local.idle() == 1


async def test_an_unknown_kind_is_a_bug_and_not_a_hang() -> None:
    async with working(limit=1) as pool:
        with pytest.raises(WorkerFailed, match="KeyError: 'dig'") as raised:
            await pool.local.execute(a_task("dig"), {})
        assert raised.value.error_class is ErrorClass.BUG


async def test_a_killed_worker_is_replaced_once_and_then_an_error_with_its_signal(
    tmp_path: Path, big_car: Path, expect_warning: ExpectWarning
) -> None:
    """The kernel's OOM killer sends SIGKILL: a task that is killed twice is too big for this machine at the moment."""
    expect_warning(r"was killed by SIGKILL in the middle of the task 'index'; trying once more")
    killed: set[int] = set()
    async with working(limit=1) as pool:

        def kill(_done: int, _total: int) -> None:
            killed.update(pool.pids)
            os.kill(pool.pids[0], signal.SIGKILL)

        with pytest.raises(
            WorkerDied, match=r"was killed by SIGKILL .* perhaps for want of memory"
        ) as raised:
            await pool.run("index", task(tmp_path, big_car), kill)
        assert (raised.value.returncode, raised.value.error_class) == (-9, ErrorClass.BUSY)
        assert len(killed) == 2
        assert not (tmp_path / "out.idx").exists()
        assert pool.pids == ()
        await pool.run("index", task(tmp_path, write_car(tmp_path / "x.car")))


async def test_a_worker_that_crashes_is_not_tried_again(tmp_path: Path, big_car: Path) -> None:
    async with working(limit=1) as pool:
        with pytest.raises(WorkerDied, match="was killed by SIGSEGV") as raised:
            await pool.run(
                "index",
                task(tmp_path, big_car),
                lambda *_: os.kill(pool.pids[0], signal.SIGSEGV),
            )
        assert raised.value.error_class is ErrorClass.BUG


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_that_is_sent_to_all_ends_no_worker_in_its_task(
    tmp_path: Path, big_car: Path, number: signal.Signals
) -> None:
    """`systemctl stop` sends SIGTERM to the agent and its workers; shards would be in error when they start again."""
    async with working(limit=1) as pool:
        sent: list[int] = []

        def send(*_: int) -> None:
            if not sent:
                sent.append(number)
                os.kill(pool.pids[0], number)

        assert (await pool.run("index", task(tmp_path, big_car), send))["blocks"]
        assert sent


async def test_where_memory_ends_a_worker_is_killed_before_the_agent(tmp_path: Path) -> None:
    path = write_car(tmp_path / "x.car")
    async with working(limit=1) as pool:
        await pool.run("index", task(tmp_path, path))
        (pid,) = pool.pids
        ours, its = (int(Path(f"/proc/{one}/oom_score_adj").read_text()) for one in ("self", pid))
    assert its == min(1000, ours + 500)


async def test_an_idle_worker_that_was_killed_fails_nobody(tmp_path: Path) -> None:
    path = write_car(tmp_path / "x.car")
    async with working(limit=1) as pool:
        await pool.run("index", task(tmp_path, path))
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)
        await trio.to_thread.run_sync(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert (await pool.run("index", task(tmp_path, path)))["blocks"] == 3


async def test_a_process_that_cannot_be_started_is_an_error_of_the_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    async with working(limit=1) as pool:
        with pytest.raises(WorkerFailed, match=r"cannot start a worker process: .*No such file") as raised:
            await pool.run("index", {})
        assert raised.value.error_class is ErrorClass.BUG


async def test_cancelling_kills_the_process_before_it_returns(tmp_path: Path, big_car: Path) -> None:
    seen: list[tuple[int, int]] = []
    async with working(limit=1) as pool, trio.open_nursery() as nursery:
        pids: list[int] = []

        def cancel(done: int, total: int) -> None:
            seen.append((done, total))
            pids.extend(pool.pids)
            nursery.cancel_scope.cancel()

        nursery.start_soon(pool.run, "index", task(tmp_path, big_car), cancel)
    assert not is_running(pids[0])
    assert not (tmp_path / "out.idx").exists()
    assert 0 < seen[0][0] <= seen[0][1] == big_car.stat().st_size


async def test_no_more_tasks_than_the_limit_run_at_once(tmp_path: Path) -> None:
    path = write_car(tmp_path / "x.car")
    async with working(limit=2) as pool, trio.open_nursery() as nursery:
        for number in range(6):
            directory = tmp_path / str(number)
            directory.mkdir()
            nursery.start_soon(pool.run, "index", task(directory, path))
        await trio.testing.wait_all_tasks_blocked()
        counts = pool.scheduler.counts()
        assert (counts.busy, counts.limit, counts.waiting) == (2, 2, 4)
    assert len(list(tmp_path.glob("*/out.idx"))) == 6


async def test_idle_workers_end_after_a_while(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    async with working(limit=1, idle_timeout_s=10) as pool:
        await pool.run("index", task(tmp_path, write_car(tmp_path / "x.car")))
        (pid,) = pool.pids
        mock_clock.jump(11)
        while is_running(pid):
            await trio.lowlevel.checkpoint()
        assert pool.local.idle() == 0


def test_a_worker_ends_with_its_agent_even_in_the_middle_of_a_task(tmp_path: Path, big_car: Path) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "agent.workers.process"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert worker.stdin is not None and worker.stdout is not None
    with worker.stdout:
        worker.stdin.write(encode({"task": "index", "params": task(tmp_path, big_car), "io_class": "idle"}))
        worker.stdin.flush()
        assert "progress" in decode(worker.stdout.readline())
        started = time.monotonic()
        worker.stdin.close()
        assert worker.wait(5) == 0
        assert time.monotonic() - started < 0.5
    assert not (tmp_path / "out.idx").exists()


def test_paths_of_any_bytes_reach_the_worker() -> None:
    name = os.fsdecode(bytes(range(1, 256)))
    assert decode(encode({"path": name})) == {"path": name}


@given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b""))), st.integers(1, 30))
def test_lines_come_out_whole_however_they_are_cut(lines: list[bytes], size: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    buffer = LineBuffer()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert [line for piece in pieces for line in buffer.feed(piece)] == lines


def test_a_line_without_end_is_refused() -> None:
    buffer = LineBuffer()
    with pytest.raises(ValueError, match="a line of more than"):
        for _ in range(MAX_LINE_BYTES // 65536 + 1):
            buffer.feed(b"x" * 65536)
