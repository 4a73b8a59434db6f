"""What has failed is tried again by itself, as its class deserves; a place that fails as a whole is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agent.dagstore.dagstore import Dagstore
from agent.dagstore.failures import ErrorClass, Failure, ShardError
from agent.dagstore.retries import POLICIES
from agent.dagstore.settings import DagstoreConfig
from agent.workers import Needs, WorkerFailed
from tests.agent.cars import write_broken_car, write_car
from tests.agent.stores import LocalWorkers, dagstore_at, register
from tests.agent.test_dagstore import AVAILABLE, ERRORED, INITIALIZING, NEW, RECOVERING, SERVING, failure_of
from tests.conftest import ExpectWarning

ITSELF = DagstoreConfig()
GONE, BUSY = POLICIES[ErrorClass.GONE], POLICIES[ErrorClass.BUSY]


async def until(condition: Callable[[], bool]) -> None:
    """Lets the dagstore work, without letting time pass."""
    while not condition():
        await trio.lowlevel.checkpoint()


class Failing(LocalWorkers):
    """Fails with these classes, one after the other, and then no longer."""

    def __init__(self, *classes: ErrorClass) -> None:
        super().__init__()
        self.classes = list(classes)

    async def run(
        self,
        kind: str,
        params: dict[str, Any],
        progress: Callable[[int, int], None] | None = None,
        needs: Needs | None = None,
        *,
        subject: str = "",
        size_bytes: int = 0,
        priority: int = 0,
    ) -> dict[str, Any]:
        if self.classes:
            self.begun.append(params["path"])
            raise WorkerFailed(self.classes.pop(0), "as told")
        return await super().run(kind, params, progress, needs, priority=priority)


async def errored(dagstore: Dagstore, key: str, path: Path) -> None:
    with pytest.raises(ShardError):
        await register(dagstore, key, path)


# Retries


async def test_what_may_mend_itself_is_tried_again_after_a_while_that_grows(
    tmp_path: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("ERRORED: as told")
    workers = Failing(ErrorClass.BUSY, ErrorClass.BUSY)
    async with dagstore_at(tmp_path, workers=workers, settings=ITSELF) as dagstore:
        await errored(dagstore, "x", write_car(tmp_path / "x.car"))
        await wait_all_tasks_blocked()
        mock_clock.jump(BUSY.first_s * 0.7)
        await wait_all_tasks_blocked(0.01)
        assert len(workers.begun) == 1
        mock_clock.jump(BUSY.first_s * 0.1)
        await until(lambda: len(workers.begun) == 2 and dagstore.record("x").state == ERRORED)
        await wait_all_tasks_blocked()
        mock_clock.jump(BUSY.first_s * 2)
        await until(lambda: dagstore.record("x").state == AVAILABLE)
        lines = [(line.event, line.by) for line in dagstore.record("x").history]
        assert [by for event, by in lines if event == "Recover"] == [
            "agent: retry 1 of 20",
            "agent: retry 2 of 20",
        ]
        assert dagstore.record("x").attempts == 0


async def test_what_waiting_cannot_mend_is_left_alone(
    tmp_path: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("ERRORED")
    async with dagstore_at(tmp_path, settings=ITSELF) as dagstore:
        await errored(dagstore, "x", write_broken_car(tmp_path / "x.car"))
        generation = dagstore.record("x").generation
        mock_clock.jump(1e6)
        await wait_all_tasks_blocked(0.01)
        assert await failure_of(dagstore, "x") is ErrorClass.CORRUPT
        assert dagstore.record("x").generation == generation


async def test_a_file_that_comes_back_is_found_by_a_retry_without_indexing_it_again(
    tmp_path: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("ERRORED")
    path, workers = write_car(tmp_path / "x.car"), LocalWorkers()
    async with dagstore_at(tmp_path, workers=workers, settings=ITSELF) as dagstore:
        await register(dagstore, "x", path)
        path.rename(tmp_path / "elsewhere")
        assert await failure_of(dagstore, "x") is ErrorClass.GONE
        await wait_all_tasks_blocked()
        mock_clock.jump(GONE.first_s)
        await until(lambda: dagstore.record("x").attempts == 2)
        assert dagstore.record("x").history[-1].event == "FailedAgain"
        (tmp_path / "elsewhere").rename(path)
        await wait_all_tasks_blocked()
        mock_clock.jump(GONE.first_s * 2)
        await until(lambda: dagstore.record("x").state == AVAILABLE)
        assert (dagstore.record("x").history[-1].event, len(workers.begun)) == ("Returned", 1)


async def test_a_retry_of_a_shard_that_was_destroyed_or_recovered_meanwhile_does_nothing(
    tmp_path: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("ERRORED")
    workers = Failing(ErrorClass.BUSY, ErrorClass.BUSY)
    path = write_car(tmp_path / "x.car")
    async with dagstore_at(tmp_path, workers=workers, settings=ITSELF) as dagstore:
        for key in ("destroyed", "recovered"):
            await errored(dagstore, key, path)
        await dagstore.destroy("destroyed")
        await dagstore.recover("recovered")
        begun = len(workers.begun)
        mock_clock.jump(1e6)
        await wait_all_tasks_blocked(0.01)
        assert (dagstore.list_keys(), len(workers.begun)) == (["recovered"], begun)


# Recovering when somebody needs it, and at the start


async def test_d13_acquiring_tries_again_each_time_the_delay_is_over_and_not_once_only(
    tmp_path: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("ERRORED: as told")
    workers = Failing(*[ErrorClass.NO_SPACE] * 3)
    settings = DagstoreConfig(retry_attempts=1)
    async with dagstore_at(tmp_path, workers=workers, settings=settings) as dagstore:
        await errored(dagstore, "x", write_car(tmp_path / "x.car"))
        assert await failure_of(dagstore, "x") is ErrorClass.NO_SPACE
        assert len(workers.begun) == 1  # too soon
        for begun in (2, 3):
            mock_clock.jump(3600)
            await until(lambda: dagstore.record("x").state == ERRORED and len(workers.begun) >= 2)
            if len(workers.begun) < begun:
                assert await failure_of(dagstore, "x") is ErrorClass.NO_SPACE
            assert len(workers.begun) == begun
        mock_clock.jump(3600)
        assert (await dagstore.acquire("x")).state == SERVING


async def broken_off(tmp_path: Path, *classes: ErrorClass) -> None:
    """A dagstore that stops with one Errored shard of each class, whose data is good by now."""
    workers = Failing(*classes)
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        for error_class in classes:
            await errored(dagstore, error_class.value, write_car(tmp_path / "x.car"))


POLICY_CASES = [("never", ERRORED), ("acquire", ERRORED), ("now", AVAILABLE)]


@pytest.mark.parametrize(("policy", "state"), POLICY_CASES)
async def test_recovering_on_start_follows_the_policy(
    tmp_path: Path, policy: Any, state: str, expect_warning: ExpectWarning
) -> None:
    expect_warning("ERRORED: as told")
    await broken_off(tmp_path, ErrorClass.GONE, ErrorClass.BUG)
    settings = DagstoreConfig(recover_on_start=policy)
    async with dagstore_at(tmp_path, settings=settings) as dagstore:
        await wait_all_tasks_blocked(0.05)
        if policy == "now":
            await until(lambda: dagstore.counts() == {AVAILABLE: 2})
            assert dagstore.record("bug").history[-2].by == "agent: restart"
        assert {dagstore.record(key).state for key in dagstore.list_keys()} == {state}
        if policy == "never":
            assert await failure_of(dagstore, "gone") is ErrorClass.GONE
        elif policy == "acquire":
            assert (await dagstore.acquire("gone")).history[-2].by == "agent: on acquire"
            assert await failure_of(dagstore, "bug") is ErrorClass.BUG


async def test_what_is_quarantined_is_recovered_by_name_only(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("AVAILABLE -> ERRORED: block 7")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        dagstore.fail("x", Failure(ErrorClass.CORRUPT, "block 7"), quarantined="block 7 of 3 at 99")
        assert dagstore.record("x").quarantined == "block 7 of 3 at 99"
    async with dagstore_at(tmp_path, settings=DagstoreConfig(recover_on_start="now")) as dagstore:
        await wait_all_tasks_blocked(0.05)
        record = dagstore.record("x")
        assert (record.state, record.quarantined) == (ERRORED, "block 7 of 3 at 99")
        await dagstore.recover("x")
        assert dagstore.record("x").quarantined == ""


async def test_a_failure_that_is_reported_leaves_readers_their_references(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("SERVING -> ERRORED: found bad")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        await dagstore.acquire("x")
        dagstore.fail("x", Failure(ErrorClass.CORRUPT, "found bad"))
        assert (dagstore.record("x").state, dagstore.record("x").refs) == (ERRORED, 1)
        assert await failure_of(dagstore, "x") is ErrorClass.CORRUPT
        dagstore.release("x")
        assert dagstore.record("x").state == ERRORED
        with pytest.raises(ShardError, match="shard not found"):
            dagstore.fail("none", Failure(ErrorClass.CORRUPT, "found bad"))


async def test_what_is_being_indexed_cannot_be_reported(tmp_path: Path) -> None:
    workers = LocalWorkers()
    workers.hold()
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"), wait=False)
        with pytest.raises(ShardError, match=f"was: {INITIALIZING}") as raised:
            dagstore.fail("x", Failure(ErrorClass.CORRUPT, "found bad"))
        assert raised.value.error_class is ErrorClass.BUSY


# Origins


class DeadOrigin(LocalWorkers):
    """A place that fails as a whole, until it is mended."""

    def __init__(self) -> None:
        super().__init__()
        self.is_dead = True
        self.asked = 0

    async def run(
        self,
        kind: str,
        params: dict[str, Any],
        progress: Callable[[int, int], None] | None = None,
        needs: Needs | None = None,
        *,
        subject: str = "",
        size_bytes: int = 0,
        priority: int = 0,
    ) -> dict[str, Any]:
        self.asked += 1
        if self.is_dead:
            raise ShardError(ErrorClass.GONE, "the disk does not answer", origin_failed=True)
        return await super().run(kind, params, progress, needs, priority=priority)


async def test_an_origin_that_fails_as_a_whole_is_left_alone_and_others_are_not(
    tmp_path: Path, mock_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("ERRORED: the disk does not answer")
    expect_warning(r"ERRORED: file://.* has failed 3 times in a row and is left alone for 10 s")
    workers = DeadOrigin()
    settings = DagstoreConfig(recover_on_start="never", retry_attempts=0, breaker_failures=3)
    (tmp_path / "other").mkdir()
    async with dagstore_at(tmp_path, workers=workers, settings=settings) as dagstore:
        path, other = write_car(tmp_path / "x.car"), write_car(tmp_path / "other" / "x.car")
        for number in range(5):
            await errored(dagstore, str(number), path)
        assert workers.asked == 3
        assert dagstore.record("4").error_class == "busy"
        workers.is_dead = False
        await register(dagstore, "other", other)
        mock_clock.jump(10)
        await register(dagstore, "mended", path)
        await dagstore.recover("4")


async def test_a_file_that_is_missing_says_nothing_about_its_folder(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("ERRORED")
    settings = DagstoreConfig(recover_on_start="never", retry_attempts=0, breaker_failures=1)
    async with dagstore_at(tmp_path, settings=settings) as dagstore:
        for number in range(5):
            await errored(dagstore, str(number), tmp_path / "missing")
        await register(dagstore, "there", write_car(tmp_path / "x.car"))


# Work that nobody wants any more


async def test_d14_an_index_that_nobody_waits_for_any_more_is_not_begun(tmp_path: Path) -> None:
    workers = LocalWorkers()
    workers.hold()
    settings = DagstoreConfig(max_concurrent_index=1)
    async with dagstore_at(tmp_path, workers=workers, settings=settings) as dagstore:
        await register(dagstore, "first", write_car(tmp_path / "first.car"), wait=False)
        await register(dagstore, "lazy", write_car(tmp_path / "lazy.car"), lazy=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dagstore.acquire, "lazy")
            await wait_all_tasks_blocked()
            assert dagstore.record("lazy").state == INITIALIZING
            nursery.cancel_scope.cancel()
        record = dagstore.record("lazy")
        assert (record.state, record.history[-1].event) == (NEW, "CalledOff")
        workers.gate.set()
        await dagstore.acquire("first")
        assert workers.begun == [str(tmp_path / "first.car")]
        assert (await dagstore.acquire("lazy")).state == SERVING


async def test_an_index_that_was_begun_is_finished_though_nobody_waits_for_it(tmp_path: Path) -> None:
    workers = LocalWorkers()
    workers.hold()
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        await register(dagstore, "lazy", write_car(tmp_path / "lazy.car"), lazy=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dagstore.acquire, "lazy")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        workers.gate.set()
        await until(lambda: dagstore.record("lazy").state == AVAILABLE)
        assert len(workers.begun) == 1


async def test_d1_a_shard_that_recovers_after_a_restart_can_be_recovered_by_name_too(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("ERRORED")
    workers = Failing(ErrorClass.GONE)
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        await errored(dagstore, "x", write_car(tmp_path / "x.car"))
        workers.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dagstore.recover, "x")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    async with dagstore_at(tmp_path, workers=LocalWorkers()) as dagstore:
        assert dagstore.record("x").state == RECOVERING
        await dagstore.recover("x")
        assert dagstore.record("x").state == AVAILABLE
