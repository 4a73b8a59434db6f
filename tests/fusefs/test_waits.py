"""Waits for data: bounded, with a deadline, and fair between shards."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import trio

from fusefs.errors import Overdue
from fusefs.waits import Job, Pool, Waits


def waits_of(threads: int = 4, per_lane: int = 2, waiting: int = 100, deadline_s: float = 30.0) -> Waits:
    return Waits(data=Pool(threads=threads, per_lane=per_lane, waiting=waiting), deadline_s=deadline_s)


class Storage:
    """Storage that does not answer until it is told to."""

    def __init__(self) -> None:
        self.answering = threading.Event()
        self.asked = threading.Semaphore(0)

    def read(self) -> str:
        self.asked.release()
        self.answering.wait(30)
        return "data"


async def test_what_a_thread_gives_and_raises_comes_back() -> None:
    waits = waits_of()
    lane = waits.data.lane()
    assert await waits.call(lane, lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        await waits.call(lane, lambda: 1 // 0)


async def test_a_wait_that_takes_too_long_is_overdue() -> None:
    storage = Storage()
    waits = waits_of(deadline_s=0.05)
    with pytest.raises(Overdue):
        await waits.call(waits.data.lane(), storage.read)
    storage.answering.set()


async def test_dead_storage_keeps_nobody_else_waiting() -> None:
    """One shard's lane fills up; another shard's reads, and those in line, go on."""
    dead, waits = Storage(), waits_of(threads=4, per_lane=2)
    lane, other = waits.data.lane(), waits.data.lane()
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(waits.call, lane, dead.read)
        await trio.testing.wait_all_tasks_blocked()
        assert lane.busy == 2
        with trio.fail_after(5):
            assert await waits.call(other, lambda: "fast") == "fast"
            assert await waits.call(waits.names.lane(), lambda: "a name") == "a name"
        dead.answering.set()


async def test_too_many_waits_are_refused_at_once() -> None:
    dead, waits = Storage(), waits_of(threads=1, waiting=3)
    lane = waits.data.lane()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(waits.call, lane, dead.read)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Overdue):
            await waits.call(lane, lambda: "never")
        dead.answering.set()


async def test_reading_ahead_takes_only_threads_that_are_free() -> None:
    dead, waits = Storage(), waits_of(threads=2, per_lane=1)
    lane = waits.data.lane()
    first = waits.start_nowait(lane, dead.read)
    assert first is not None
    assert waits.start_nowait(lane, dead.read) is None
    dead.answering.set()
    assert await first.wait() == "data"
    again = waits.start_nowait(lane, dead.read)
    assert again is not None
    assert await again.wait() == "data"


async def test_several_wait_for_one_job_and_a_cancel_leaves_it_running() -> None:
    storage, waits = Storage(), waits_of()
    job = waits.start_nowait(waits.data.lane(), storage.read)
    assert job is not None
    results: list[str] = []

    async def wait(job: Job[str]) -> None:
        results.append(await job.wait())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, job)
        nursery.start_soon(wait, job)
        with trio.move_on_after(0):
            await wait(job)
        storage.answering.set()
    assert results == ["data", "data"]
    assert job.value() == "data"


async def test_a_cancelled_wait_for_a_place_gives_back_what_it_took() -> None:
    dead, waits = Storage(), waits_of(threads=1, per_lane=2)
    lane = waits.data.lane()
    first = waits.start_nowait(lane, dead.read)
    with trio.move_on_after(0):
        await waits.start(lane, partial(dead.read))
    assert lane.busy == 1
    dead.answering.set()
    assert first is not None
    await first.wait()
    assert lane.busy == 0
