"""Which idle worker process gets a task, and which end to make room."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agent.workers.child import Child
from agent.workers.idle import Idle
from tests.agent.cars import write_car
from tests.agent.machines import working

MIB = 1 << 20


class Process:
    """A child without a process, which ends when the test says so."""

    def __init__(self, used: int) -> None:
        self.pid = self.used = used
        self.may_end = trio.Event()
        self.limits: list[int] = []
        self.is_killed = False

    def used_bytes(self) -> int:
        return self.used

    def lives(self) -> bool:
        return not self.is_killed

    def limit(self, memory_bytes: int) -> bool:
        self.limits.append(memory_bytes)
        return self.used <= memory_bytes

    async def kill(self) -> None:
        self.is_killed = True
        await self.may_end.wait()


def idle_of(nursery: trio.Nursery, *processes: Process) -> Idle:
    idle = Idle(nursery, timeout_s=10)
    for process in processes:
        idle.add(cast(Child, process))
    return idle


async def test_the_biggest_that_may_go_on_under_the_limit_gets_the_task() -> None:
    processes = [Process(30), Process(60), Process(50)]
    async with trio.open_nursery() as nursery:
        idle = idle_of(nursery, *processes)
        assert cast(object, await idle.take(55)) is processes[2]
        assert idle.held_bytes() == 90
        nursery.cancel_scope.cancel()


async def test_where_each_has_outgrown_the_limit_one_ends_for_the_new_one() -> None:
    processes = [Process(30), Process(60)]
    processes[1].may_end.set()
    async with trio.open_nursery() as nursery:
        idle = idle_of(nursery, *processes)
        assert await idle.take(20) is None
        assert [one.is_killed for one in processes] == [False, True]
        nursery.cancel_scope.cancel()


async def test_room_is_made_by_the_biggest_and_those_kept_are_reckoned_with() -> None:
    processes = [Process(30), Process(60), Process(50), Process(40)]
    async with trio.open_nursery() as nursery:
        idle = idle_of(nursery, *processes)
        idle.make_room(85, keep=1)  # 30 of it is in the one that is kept
        await wait_all_tasks_blocked()
        assert [one.is_killed for one in processes] == [False, True, False, False]
        nursery.cancel_scope.cancel()


async def test_no_task_gets_a_process_before_those_that_make_room_are_gone_and_then_all_do() -> None:
    processes = [Process(10), Process(20), Process(30)]
    taken: list[object] = []
    async with trio.open_nursery() as nursery:
        idle = idle_of(nursery, *processes)

        async def take() -> None:
            taken.append(await idle.take(100))

        idle.make_room(1, keep=0)
        nursery.start_soon(take)
        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        assert taken == []
        processes[2].may_end.set()
        await wait_all_tasks_blocked()
        assert taken == [processes[1], processes[0]]
        nursery.cancel_scope.cancel()


async def test_each_ends_when_it_has_been_idle_for_so_long(autojump_clock: MockClock) -> None:
    processes = [Process(10), Process(20)]
    for process in processes:
        process.may_end.set()
    async with trio.open_nursery() as nursery:
        idle = idle_of(nursery, processes[0])
        await trio.sleep(6)
        idle.add(cast(Child, processes[1]))
        await trio.sleep(5)
        assert [one.is_killed for one in processes] == [True, False]
        await trio.sleep(6)
        assert [one.is_killed for one in processes] == [True, True]
    assert len(idle) == 0


async def test_a_process_that_was_used_is_used_again(tmp_path: Path) -> None:
    path = write_car(tmp_path / "x.car")
    async with working(limit=1) as pool:
        await pool.run("commp", {"path": str(path)})
        before = pool.pids
        await pool.run("commp", {"path": str(path)})
        assert pool.pids == before
