"""A worker that joins, works, falls silent and joins again; both halves in one loop, on a clock of the test."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from agent.dagstore.failures import ErrorClass, ShardError
from agent.workers.executor import Done, Needs
from agent.workers.failures import WorkerBarred, WorkerDied, WorkerFailed, WorkerLost
from agent.workers.messages import Params
from agent.workers.remote.executor import CANCEL_WAIT_S, RemoteExecutor
from agent.workers.remote.link import LinkBroken, Refused
from agent.workers.remote.messages import Welcome
from agent.workers.remote.sights import PROOF, write_proof
from tests.agent.remote.joining import HEARTBEAT_S, Hands, Pair, eventually, hello, pair_at, task
from tests.conftest import ExpectWarning


class Running:
    """What came of a task that was begun in a nursery."""

    def __init__(
        self, executor: RemoteExecutor, params: Params, **given: Any
    ) -> None:  # Any: as `execute` takes
        self._executor, self._params, self._given = executor, params, given
        self.scope = trio.CancelScope()
        self.done: Done | None = None
        self.error: Exception | None = None
        self.is_over = False

    async def __call__(self) -> None:
        given = {"progress": None, "needs": None, "memory_limit": 0, "task": task(), **self._given}
        with self.scope:
            try:
                self.done = await self._executor.execute(given.pop("task"), self._params, **given)
            except Exception as error:
                self.error = error
        self.is_over = True


class Fetching(Needs):
    """Has nothing of what lies behind 100, and notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int]] = []
        self.hints: list[tuple[int, int]] = []

    async def ensure(self, offset: int, length: int) -> None:
        self.asked.append(("ensure", offset, length))
        if offset > 100:
            raise ShardError(ErrorClass.GONE, "it is not there")

    async def renew(self, offset: int, length: int) -> None:
        self.asked.append(("renew", offset, length))

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        self.hints += ranges


async def begun(pair: Pair, nursery: trio.Nursery) -> Running:
    """A task that goes on for ever at the worker."""
    pair.hands.work = Hands.for_ever
    running = Running(await pair.board.ready(), {})
    nursery.start_soon(running)
    await eventually(lambda: pair.hands.running)
    return running


async def test_a_task_is_done_with_its_parameters_limit_and_progress(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async def work(params: Params, progress: Any, _needs: object) -> Params:
        progress(3, 9)
        return {"name": params["name"]}

    async with pair_at(tmp_path) as (pair, _):
        pair.hands.work = work
        seen: list[tuple[int, int]] = []
        executor = await pair.board.ready()
        params = {"name": "caf\udcff"}  # as a path that is no UTF-8 comes
        done = await executor.execute(task(), params, lambda *way: seen.append(way), None, memory_limit=5)
        assert (done, seen) == (Done(params, 99), [(3, 9)])
        assert (pair.hands.params, pair.hands.limits) == ([params], [5])
        assert pair.hands.begun == [task()]


async def test_the_worker_is_seen_with_its_own_limits(tmp_path: Path, mock_clock: MockClock) -> None:
    async with pair_at(tmp_path) as (pair, nursery):
        await begun(pair, nursery)
        executor = await pair.board.ready()
        assert (executor.id, executor.name) == ("s1", "far")
        assert executor.snapshot() == pair.hands.snapshot()
        assert executor.disk_left() > 0
        mock_clock.jump(HEARTBEAT_S)
        await eventually(lambda: executor.used_bytes("t1") == 42)


async def test_a_change_of_limits_is_told_at_once_and_decides_anew(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    pair = Pair(tmp_path)
    worker = pair.worker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        executor = await pair.board.ready()
        changes = pair.board.changes
        pair.hands.memory = 5
        worker.poke()
        await eventually(lambda: executor.snapshot().memory.limit == 5)
        assert pair.board.changes == changes + 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("raised", "found"),
    [
        (WorkerFailed(ErrorClass.CORRUPT, "x.car is damaged"), "x.car is damaged"),
        (WorkerDied("process 7 was killed", -9), "worker far: process 7 was killed"),
        (WorkerBarred("no such disk"), "worker far: no such disk"),
        (RuntimeError("a bug"), "RuntimeError: a bug"),
    ],
)
async def test_what_goes_wrong_there_goes_wrong_here(
    raised: Exception, found: str, tmp_path: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    async def work(*_: Any) -> Params:
        raise raised

    if isinstance(raised, WorkerBarred):
        expect_warning("worker far: no such disk")
    if isinstance(raised, RuntimeError):
        expect_warning("verify of the subject of t1")
    async with pair_at(tmp_path) as (pair, _):
        pair.hands.work = work
        executor = await pair.board.ready()
        with pytest.raises(type(raised) if not isinstance(raised, RuntimeError) else WorkerFailed) as error:
            await executor.execute(task(), {}, None, None, memory_limit=0)
        assert str(error.value) == found
        for name in ("error_class", "returncode"):
            assert getattr(error.value, name, None) == getattr(raised, name, getattr(error.value, name, None))


async def test_what_a_task_lacks_is_fetched_here(tmp_path: Path, mock_clock: MockClock) -> None:
    async def work(_params: Params, _progress: Any, needs: Needs | None) -> Params:
        assert needs is not None
        needs.hint([(1, 2)])
        await needs.ensure(3, 4)
        await needs.renew(5, 6)
        with pytest.raises(ShardError, match="it is not there") as raised:
            await needs.ensure(101, 1)
        return {"class": raised.value.error_class}

    async with pair_at(tmp_path) as (pair, _):
        pair.hands.work, fetching = work, Fetching()
        executor = await pair.board.ready()
        done = await executor.execute(task(), {}, None, fetching, memory_limit=0)
        assert done.result == {"class": "gone"}
        assert fetching.asked == [("ensure", 3, 4), ("renew", 5, 6), ("ensure", 101, 1)]
        assert fetching.hints == [(1, 2)]


async def test_calling_a_task_off_kills_it_before_it_returns(tmp_path: Path, mock_clock: MockClock) -> None:
    async with pair_at(tmp_path) as (pair, nursery):
        running = await begun(pair, nursery)
        running.scope.cancel()
        await eventually(lambda: running.is_over)
        assert (pair.hands.killed, running.done, running.error) == (["t1"], None, None)


async def test_a_worker_that_does_not_answer_holds_up_a_cancel_for_a_bounded_time(
    tmp_path: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("worker far does not say that it has killed what was called off")
    async with pair_at(tmp_path) as (pair, nursery):
        running = await begun(pair, nursery)
        pair.wire.lost = {"reports"}
        running.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(CANCEL_WAIT_S)
        await eventually(lambda: running.is_over)


async def test_a_silent_worker_is_lost_and_its_tasks_with_it(
    tmp_path: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("joining again as soon as that works")
    async with pair_at(tmp_path) as (pair, nursery):
        running = await begun(pair, nursery)
        pair.wire.lost = {"reports"}
        await eventually(lambda: not pair.board.executors, meanwhile=partial(mock_clock.jump, 1.0))
        await eventually(lambda: running.is_over)
        assert isinstance(running.error, WorkerLost)
        assert "worker far: nothing was heard of it for 15.0 s" in str(running.error)
        await eventually(lambda: pair.hands.killed)


async def test_a_worker_without_tasks_lives_on_heartbeats(tmp_path: Path, mock_clock: MockClock) -> None:
    async with pair_at(tmp_path) as (pair, _):
        executor = await pair.board.ready()
        for _ in range(10):
            before = pair.remote._joined["s1"].session.lost_at_s
            mock_clock.jump(HEARTBEAT_S)
            await eventually(lambda: pair.remote._joined["s1"].session.lost_at_s > before)  # noqa: B023
        assert pair.board.executors == [executor]


async def test_a_worker_that_was_given_up_kills_what_it_ran_and_joins_anew(
    tmp_path: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("joining again as soon as that works")
    async with pair_at(tmp_path) as (pair, nursery):
        running = await begun(pair, nursery)
        executor = await pair.board.ready()
        executor.end("a test says so")
        await eventually(lambda: running.is_over and pair.hands.killed)
        assert isinstance(running.error, WorkerLost)
        mock_clock.jump(1.0)
        again = await pair.board.ready()
        assert again is not executor and again.id == executor.id


async def test_an_answer_that_is_lost_makes_nothing_count_twice(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with pair_at(tmp_path) as (pair, nursery):
        pair.wire.lost = {"answers"}
        running = Running(await pair.board.ready(), {"x": 1})
        nursery.start_soon(running)
        await eventually(lambda: running.is_over)
        pair.wire.lost = set()
        mock_clock.jump(0.1)
        second = Running(await pair.board.ready(), {"x": 2})
        nursery.start_soon(second)
        await eventually(lambda: second.is_over, meanwhile=partial(mock_clock.jump, 0.1))
        assert running.done is not None and second.done is not None
        assert [running.done.result, second.done.result] == [{"got": {"x": 1}}, {"got": {"x": 2}}]
        assert pair.wire.joins == 1


async def test_a_broken_connection_ends_what_ran_and_the_worker_joins_again(
    tmp_path: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("cut; joining again as soon as that works")
    async with pair_at(tmp_path) as (pair, nursery):
        running = await begun(pair, nursery)
        pair.wire.cut()
        await eventually(lambda: running.is_over and pair.hands.killed)
        assert isinstance(running.error, WorkerLost)
        assert pair.board.executors == []
        mock_clock.jump(0.1)
        await pair.board.ready()


async def test_a_worker_tries_less_and_less_often_and_says_once_that_no_agent_is_there(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, expect_warning: ExpectWarning
) -> None:
    expect_warning("no agent listens")
    pair = Pair(tmp_path)
    times: list[float] = []

    class Absent:
        def join(self, _hello: object) -> Any:
            times.append(trio.current_time())
            raise LinkBroken("no agent listens")

    worker = pair.worker()
    worker._link = Absent()  # type: ignore[assignment]  # has no `report`
    with trio.move_on_after(30):
        await worker.run()
    waits = [round(after - before, 3) for before, after in pairwise(times)]
    assert waits[:8] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert len([one for one in caplog.records if one.levelno >= logging.WARNING]) == 1


async def test_a_new_agent_is_joined_by_the_old_worker(
    tmp_path: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("joining again")
    async with pair_at(tmp_path) as (pair, nursery):
        running = await begun(pair, nursery)
        pair.wire.remote = None
        pair.wire.cut()
        await eventually(lambda: running.is_over and pair.hands.killed)
        pair.wire.remote = pair.new_agent()
        await eventually(lambda: pair.board.executors, meanwhile=partial(mock_clock.jump, 0.1))
        pair.hands.work = Hands._at_once
        executor = await pair.board.ready()
        assert (await executor.execute(task(), {}, None, None, memory_limit=0)).result == {"got": {}}


async def test_joining_twice_ends_the_first_join(tmp_path: Path, mock_clock: MockClock) -> None:
    """A connection that broke without our being told: the same program is back before it is missed."""
    pair = Pair(tmp_path)
    async with pair.remote.joined(hello()) as first:
        assert isinstance(await anext(first), Welcome)
        old = pair.remote.workers()[0]
        async with pair.remote.joined(hello()) as second:
            assert isinstance(await anext(second), Welcome)
            assert [message async for message in first][-1].reason == "it has joined anew"  # type: ignore[union-attr]
            assert len(pair.board.executors) == 1 and pair.board.executors != [old]
        assert pair.board.executors == []


async def test_two_workers_are_joined_side_by_side(tmp_path: Path, mock_clock: MockClock) -> None:
    pair = Pair(tmp_path)
    async with pair.remote.joined(hello("s1")), pair.remote.joined(hello("s2")):
        assert [executor.id for executor in pair.board.executors] == ["s1", "s2"]


async def test_another_protocol_cannot_join(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    with pytest.raises(ShardError, match="install the newer carfs"):
        async with pair.remote.joined(hello(protocol=9)):
            raise AssertionError("it was let in")
    assert pair.board.executors == []


async def test_a_disabled_worker_is_told_and_stays_so_when_it_joins_again(
    tmp_path: Path, mock_clock: MockClock, caplog: pytest.LogCaptureFixture, expect_warning: ExpectWarning
) -> None:
    expect_warning("cut")
    caplog.set_level(logging.INFO)
    async with pair_at(tmp_path) as (pair, _):
        (await pair.board.ready()).set_enabled(False)
        await eventually(lambda: "the agent gives nothing new: disabled there" in caplog.text)
        assert pair.board.enabled == {}
        pair.wire.cut()
        await eventually(lambda: pair.board.enabled, meanwhile=partial(mock_clock.jump, 0.1))
        assert pair.board.enabled == {"s1": False}


async def test_a_worker_that_does_not_see_our_folder_is_given_nothing_until_it_does(
    tmp_path: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("nothing can be done here: .* is not the agent's")
    expect_warning("worker far can do nothing: .* is not the agent's, but another one")
    async with pair_at(tmp_path) as (pair, _):
        executor = await pair.board.ready()
        ours = (tmp_path / PROOF).read_bytes()
        write_proof(tmp_path)
        await eventually(lambda: not executor.kinds, meanwhile=partial(mock_clock.jump, 0.1))
        assert "must be at the same path here" in executor.note
        with pytest.raises(WorkerBarred, match="but another one"):
            await executor.execute(task(), {}, None, None, memory_limit=0)
        (tmp_path / PROOF).write_bytes(ours)
        await eventually(lambda: executor.kinds, meanwhile=partial(mock_clock.jump, 0.1))
        assert executor.note == ""


async def test_a_task_whose_data_are_not_seen_there_is_barred_with_the_reason(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch, expect_warning: ExpectWarning
) -> None:
    expect_warning("another version of it")
    path = tmp_path / "x.car"
    path.write_bytes(b"1234")
    async with pair_at(tmp_path) as (pair, _):
        executor = await pair.board.ready()
        monkeypatch.setattr("agent.workers.remote.executor.sights", lambda _params: [_older(path)])
        with pytest.raises(WorkerBarred, match=r"worker far: .*size 4, not 3"):
            await executor.execute(task(), {"path": str(path)}, None, None, memory_limit=0)
        assert pair.hands.begun == []
        assert "another version of it" in executor.note


def _older(path: Path) -> Any:
    from agent.workers.remote.sights import Sight

    return Sight(str(path), 3, 0, path.stat().st_ino)


async def test_a_result_has_its_name_when_it_is_accepted_and_not_before(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    out = tmp_path / "x.idx"
    seen = []

    async def work(params: Params, *_: Any) -> Params:
        Path(params["out"]).write_text("made")
        seen.append(out.exists())
        return {"name": Path(params["out"]).name}

    async with pair_at(tmp_path) as (pair, _):
        pair.hands.work = work
        executor = await pair.board.ready()
        params = {"scratch": str(tmp_path / "building" / "x.idx"), "out": str(out)}
        done = await executor.execute(task("index"), params, None, None, memory_limit=0)
        assert (done.result, seen, out.read_text()) == ({"name": "x.idx"}, [False], "made")
        assert list((tmp_path / "building").iterdir()) == []


async def test_a_lost_worker_that_goes_on_and_finishes_changes_nothing(
    tmp_path: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    """It makes the same index as the one that the task was given to next, and is done after it."""
    expect_warning("joining again as soon as that works")
    out = tmp_path / "x.idx"
    params = {"scratch": str(tmp_path / "building" / "x.idx"), "out": str(out)}
    failures: list[OSError] = []
    late = trio.Event()

    async def work(params: Params, *_: Any) -> Params:
        with trio.CancelScope(shield=True):  # as if it could not be killed: it runs on another machine
            await late.wait()
        try:
            Path(params["out"]).write_text("late")
        except OSError as error:
            failures.append(error)
        return {}

    async with pair_at(tmp_path) as (pair, nursery):
        pair.hands.work = work
        executor = await pair.board.ready()
        running = Running(executor, params, task=task("index"))
        nursery.start_soon(running)
        await eventually(lambda: pair.hands.running)
        executor.end("it was too long silent")
        await eventually(lambda: running.is_over)
        assert isinstance(running.error, WorkerLost)
        out.write_text("of the other one")
        late.set()
        await eventually(lambda: failures)
        assert out.read_text() == "of the other one"
        assert list((tmp_path / "building").iterdir()) == []


async def test_leaving_takes_nothing_new_and_finishes_what_runs(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    go_on = trio.Event()

    async def work(*_: Any) -> Params:
        await go_on.wait()
        return {"done": 1}

    pair = Pair(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.worker().run)
        pair.hands.work = work
        executor = await pair.board.ready()
        running = Running(executor, {})
        nursery.start_soon(running)
        await eventually(lambda: pair.hands.running)
        pair.leave.asked.set()
        await eventually(lambda: not executor.kinds)
        with pytest.raises(WorkerLost, match="it is leaving"):
            await executor.execute(task(name="t2"), {}, None, None, memory_limit=0)
        go_on.set()
    assert running.done == Done({"done": 1}, 99)
    assert (pair.board.executors, pair.remote.workers()) == ([], ())


async def test_what_does_not_end_in_the_grace_is_killed_and_given_to_others(
    tmp_path: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("1 tasks have not ended in 30 s: killed")
    pair = Pair(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.worker().run)
        running = await begun(pair, nursery)
        pair.leave.asked.set()
        await eventually(lambda: running.is_over, meanwhile=partial(mock_clock.jump, 1.0))
        assert isinstance(running.error, WorkerLost) and str(running.error) == "worker far: it has left"
    assert pair.hands.killed == ["t1"]


async def test_a_second_signal_ends_it_at_once(tmp_path: Path, mock_clock: MockClock) -> None:
    pair = Pair(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.worker().run)
        running = await begun(pair, nursery)
        pair.leave.asked.set()
        pair.leave.at_once.cancel()
        await eventually(lambda: running.is_over)
        assert isinstance(running.error, WorkerLost)
    assert pair.hands.killed == ["t1"]


async def test_a_worker_that_is_refused_says_why_and_ends(tmp_path: Path) -> None:
    pair = Pair(tmp_path)

    class Denying:
        def join(self, _hello: object) -> Any:
            raise Refused("a token is needed", "denied")

    worker = pair.worker()
    worker._link = Denying()  # type: ignore[assignment]  # has no `report`
    with pytest.raises(Refused, match="a token is needed"):
        await worker.run()
