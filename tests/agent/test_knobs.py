"""Every key of `[dagstore]` changes what happens; the table below says which test shows it, so that none is dead."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agent import parts
from agent.config import Config
from agent.dagstore import mounts
from agent.dagstore.collecting import Collected
from agent.dagstore.dagstore import Dagstore
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.lifecycle import ShardState
from agent.dagstore.mounts import FileMount, Fingerprint
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.records import ShardRow, Transition
from agent.dagstore.registering import Registration
from agent.dagstore.settings import DagstoreConfig
from agent.repository import Repository
from tests.agent.cars import write_car
from tests.agent.processes import AgentProcess
from tests.agent.stores import LocalWorkers, dagstore_at, register, settled
from tests.agent.test_initialising import SealedMount
from tests.agent.test_recovering import Failing, errored
from tests.conftest import ExpectWarning

HERE, RECOVERING = "tests.agent.test_knobs", "tests.agent.test_recovering"
SHOWN = {
    "root_dir": (HERE, "test_the_folder_can_be_elsewhere"),
    "max_concurrent_index": (HERE, "test_as_many_indices_are_made_at_once_as_allowed"),
    "max_concurrent_unseals": (
        HERE,
        "test_x2_what_is_sealed_has_a_limit_of_its_own_and_keeps_nobody_else_waiting",
    ),
    "max_concurrency_storage_calls": (
        HERE,
        "test_x3_as_many_looks_are_under_way_as_allowed_and_zero_is_no_limit",
    ),
    "gc_interval_s": (HERE, "test_x5_room_is_made_as_often_as_told_and_what_comes_of_it_is_said"),
    "recover_on_start": (RECOVERING, "test_recovering_on_start_follows_the_policy"),
    "retry_attempts": (HERE, "test_retries_are_as_many_as_allowed"),
    "retry_max_s": (HERE, "test_no_retry_waits_longer_than_allowed"),
    "breaker_failures": (RECOVERING, "test_an_origin_that_fails_as_a_whole_is_left_alone_and_others_are_not"),
    "breaker_pause_s": (HERE, "test_an_origin_is_left_alone_for_as_long_as_told"),
    "remote_fresh_s": (
        "tests.agent.transients.test_remote_shards",
        "test_data_that_were_looked_at_a_moment_ago_are_not_looked_at_again",
    ),
    "history_kept": (HERE, "test_the_history_is_as_long_as_told"),
    "trace_buffer": ("tests.agent.test_traces", "test_d7_traces_that_nobody_reads_keep_no_shard_waiting"),
}
OF_TRANSIENTS = {
    "max_concurrent_ready_fetches",
    "transients_max_bytes",
    "transients_high",
    "transients_low",
}
"""What bounds local copies of remote data is shown beside these."""


def test_every_key_has_a_test_that_shows_what_it_changes() -> None:
    assert {*SHOWN, *OF_TRANSIENTS} == set(DagstoreConfig.__struct_fields__)
    for module, name in SHOWN.values():
        assert callable(getattr(importlib.import_module(module), name))


def test_the_folder_can_be_elsewhere(tmp_path: Path) -> None:
    environ = {"CARFS_DAGSTORE_ROOT_DIR": str(tmp_path / "big disk")}
    with AgentProcess(tmp_path / "a", environ=environ) as agent:
        record = agent.register("x", write_car(tmp_path / "x.car"))
        assert Path(record["IndexPath"]).parent == tmp_path / "big disk" / "index"
    assert not (tmp_path / "a" / "dagstore").exists()


async def begun(dagstore: Dagstore, workers: LocalWorkers, urls: Sequence[str]) -> int:
    """How many of these are being indexed side by side."""
    shards = [Registration(f"{len(workers.begun)}/{number}", url) for number, url in enumerate(urls)]
    assert await dagstore.register_all(shards) == [None] * len(urls)
    await settled(dagstore)
    return len(workers.begun)


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (3, 3), (0, 9)])
async def test_as_many_indices_are_made_at_once_as_allowed(tmp_path: Path, limit: int, expected: int) -> None:
    workers = LocalWorkers()
    workers.hold()
    settings = DagstoreConfig(max_concurrent_index=limit)
    async with dagstore_at(tmp_path, workers=workers, settings=settings) as dagstore:
        path = str(write_car(tmp_path / "x.car"))
        assert await begun(dagstore, workers, [path] * 9) == expected


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (2, 2), (0, 4)])
async def test_x2_what_is_sealed_has_a_limit_of_its_own_and_keeps_nobody_else_waiting(
    tmp_path: Path, limit: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        mounts.SCHEMES,
        "sealed",
        lambda url: SealedMount(FileMount.parse(url.replace("sealed:", "file:")).path),
    )
    workers = LocalWorkers()
    workers.hold()
    settings = DagstoreConfig(max_concurrent_index=1, max_concurrent_unseals=limit)
    async with dagstore_at(tmp_path, workers=workers, settings=settings) as dagstore:
        path = write_car(tmp_path / "x.car")
        assert await begun(dagstore, workers, [f"sealed://{path}"] * 4) == expected
        assert await begun(dagstore, workers, [str(path)]) == expected + 1


@dataclass(frozen=True, slots=True)
class SlowMount(FileMount):
    """A file that takes its time to be looked at, and notes how many look."""

    looking = [0]  # noqa: RUF012  shared by all on purpose

    async def look(self, environment: Environment) -> Fingerprint:
        self.looking[0] += 1
        await trio.sleep(1)
        self.looking[0] -= 1
        return self.stat()


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (2, 2), (0, 5)])
async def test_x3_as_many_looks_are_under_way_as_allowed_and_zero_is_no_limit(
    tmp_path: Path, limit: int, expected: int, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    monkeypatch.setitem(mounts.SCHEMES, "file", lambda url: SlowMount(FileMount.parse(url).path))
    settings = DagstoreConfig(max_concurrency_storage_calls=limit)
    async with dagstore_at(tmp_path, settings=settings) as dagstore:
        for number in range(5):
            await register(dagstore, str(number), write_car(tmp_path / f"{number}.car"))
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(dagstore.acquire, str(number))
            await wait_all_tasks_blocked()
            assert SlowMount.looking == [expected]
            mock_clock.autojump_threshold = 0
        assert SlowMount.looking == [0]


class Tidying:
    """Notes when it is asked to make room, and cannot the second time."""

    def __init__(self) -> None:
        self.times: list[float] = []

    async def gc(self) -> Sequence[Collected]:
        raise AssertionError("nobody has asked for everything to go")

    async def tidy(self) -> int:
        self.times.append(trio.current_time())
        if len(self.times) == 2:
            raise ShardError(ErrorClass.DENIED, "read-only")
        return 4096


@pytest.mark.parametrize(("interval_s", "expected"), [(60.0, 3), (90.0, 2), (0.0, 0)])
async def test_x5_room_is_made_as_often_as_told_and_what_comes_of_it_is_said(
    tmp_path: Path,
    interval_s: float,
    expected: int,
    autojump_clock: MockClock,
    expect_warning: ExpectWarning,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    if expected:
        expect_warning("removing what is over the limits failed: read-only")
    tidying = Tidying()
    async with dagstore_at(tmp_path, settings=DagstoreConfig(gc_interval_s=interval_s)) as dagstore:
        dagstore.collector = tidying
        begun_s = trio.current_time()
        await trio.sleep(200)
        assert [time_s - begun_s for time_s in tidying.times] == [
            pytest.approx(interval_s * number, abs=1) for number in range(1, expected + 1)
        ]
        assert ("removed 4096 bytes" in caplog.text) == bool(expected)


@pytest.mark.parametrize(("attempts", "expected"), [(0, 1), (2, 3)])
async def test_retries_are_as_many_as_allowed(
    tmp_path: Path, attempts: int, expected: int, autojump_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("ERRORED: as told")
    workers = Failing(*[ErrorClass.BUSY] * 9)
    settings = DagstoreConfig(retry_attempts=attempts)
    async with dagstore_at(tmp_path, workers=workers, settings=settings) as dagstore:
        await errored(dagstore, "x", write_car(tmp_path / "x.car"))
        await trio.sleep(3600)
        assert len(workers.begun) == expected


@pytest.mark.parametrize(("max_s", "expected"), [(1.0, 10), (4.0, 4)])
async def test_no_retry_waits_longer_than_allowed(
    tmp_path: Path, max_s: float, expected: int, autojump_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("ERRORED: as told")
    workers = Failing(*[ErrorClass.BUSY] * 99)
    settings = DagstoreConfig(retry_max_s=max_s, gc_interval_s=0)
    async with dagstore_at(tmp_path, workers=workers, settings=settings) as dagstore:
        await errored(dagstore, "x", write_car(tmp_path / "x.car"))
        await trio.sleep(7.4)  # three quarters of: 1 + 1 + …, or 1 + 2 + 4 + 4
        assert len(workers.begun) == expected


@pytest.mark.parametrize("pause_s", [5.0, 50.0])
async def test_an_origin_is_left_alone_for_as_long_as_told(tmp_path: Path, pause_s: float) -> None:
    async with dagstore_at(
        tmp_path, settings=DagstoreConfig(breaker_failures=1, breaker_pause_s=pause_s)
    ) as dagstore:
        origins = dagstore._origins
        with pytest.raises(ShardError), origins.visited("file:///disk/x"):
            raise ShardError(ErrorClass.GONE, "dead", origin_failed=True)
        with (
            pytest.raises(ShardError, match=f"left alone for {pause_s:.0f} s"),
            origins.visited("file:///disk/y"),
        ):
            raise AssertionError("it was let through")


@pytest.mark.parametrize("kept", [1, 7])
def test_the_history_is_as_long_as_told(tmp_path: Path, kept: int) -> None:
    repository = Repository(tmp_path)
    config = Config(dagstore=DagstoreConfig(history_kept=kept))
    with parts.open_catalogue(repository, config) as catalogue:
        row = ShardRow("x", "file:///x", ShardState.NEW, False, "t")
        for number in range(9):
            catalogue.put(row, Transition(str(number), "", "", "", ""))
        assert len(catalogue.history_page("x", before=None, limit=99)) == kept


def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `max_index`"):
        msgspec.convert({"max_index": 1}, DagstoreConfig)
