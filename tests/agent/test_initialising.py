"""Indexing all that waits for it: Lotus' events, its limits, and what is sealed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from agent.dagstore import mounts
from agent.dagstore.bulk import Step
from agent.dagstore.dagstore import Dagstore
from agent.dagstore.mounts import FileMount
from tests.agent.cars import write_broken_car, write_car
from tests.agent.stores import LocalWorkers, dagstore_at, register, settled
from tests.agent.test_dagstore import AVAILABLE, ERRORED, NEW
from tests.conftest import ExpectWarning


@dataclass(frozen=True, slots=True)
class SealedMount(FileMount):
    """A file that must be unsealed before it can be read, or so it says."""

    is_sealed = True

    @property
    def url(self) -> str:
        return FileMount(self.path).url.replace("file:", "sealed:")


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(url: str) -> SealedMount:
        return SealedMount(FileMount.parse(url.replace("sealed:", "file:")).path)

    monkeypatch.setitem(mounts.SCHEMES, "sealed", parse)


async def told(dagstore: Dagstore, limit: int = 0, *, include_sealed: bool = False) -> list[Step]:
    async with dagstore.initialise_all(limit, include_sealed) as steps:
        return [step async for step in steps]


async def test_all_that_is_new_is_initialised_with_two_events_each(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("b: INITIALIZING -> ERRORED")
    good, bad = write_car(tmp_path / "x.car"), write_broken_car(tmp_path / "bad.car")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "done", good)
        for key, path in (("a", good), ("b", bad), ("c", good)):
            await register(dagstore, key, path, lazy=True)
        events = await told(dagstore, 1)
        assert [(one.key, one.event, one.success) for one in events] == [
            ("a", "start", False),
            ("a", "end", True),
            ("b", "start", False),
            ("b", "end", False),
            ("c", "start", False),
            ("c", "end", True),
        ]
        assert [(one.total, one.current) for one in events] == [(3, n) for n in (1, 1, 2, 2, 3, 3)]
        assert events[3].error == dagstore.record("b").error
        assert dagstore.counts() == {AVAILABLE: 3, ERRORED: 1}
        assert await told(dagstore) == []


async def test_r1_what_is_sealed_is_initialised_only_if_asked_for(tmp_path: Path, sealed: None) -> None:
    path = write_car(tmp_path / "x.car")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "unsealed", path, lazy=True)
        await dagstore.register("sealed", f"sealed://{path}", lazy=True)
        keys = {step.key for step in await told(dagstore)}
        assert (keys, dagstore.record("sealed").state) == ({"unsealed"}, NEW)
        keys = {step.key for step in await told(dagstore, include_sealed=True)}
        assert (keys, dagstore.record("sealed").state) == ({"sealed"}, AVAILABLE)


@pytest.mark.parametrize(("limit", "expected"), [(2, 2), (0, 5)])
async def test_r1_as_many_are_begun_as_the_limit_says_and_zero_is_no_limit(
    tmp_path: Path, limit: int, expected: int
) -> None:
    workers = LocalWorkers()
    workers.hold()
    events: list[Step] = []

    async def follow() -> None:
        events.extend(await told(dagstore, limit))

    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        for number in range(5):
            await register(dagstore, str(number), write_car(tmp_path / "x.car"), lazy=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await settled(dagstore)
            assert len(workers.begun) == expected
            workers.gate.set()
        assert len(events) == 10


async def test_whoever_stops_listening_stops_what_has_not_begun(tmp_path: Path) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        for number in range(5):
            await register(dagstore, str(number), write_car(tmp_path / "x.car"), lazy=True)
        async with dagstore.initialise_all(max_concurrency=1) as events:
            async for event in events:
                if event.event == "end":
                    break
        await wait_all_tasks_blocked(0.02)
        assert dagstore.counts()[NEW] >= 2


async def test_d7_a_stream_that_nobody_reads_holds_up_nothing_else(tmp_path: Path) -> None:
    path = write_car(tmp_path / "x.car")
    async with dagstore_at(tmp_path) as dagstore:
        for number in range(50):
            await register(dagstore, str(number), path, lazy=True)
        async with dagstore.initialise_all() as steps:
            await anext(steps)
            with trio.fail_after(30):
                await wait_all_tasks_blocked(0.02)
                await register(dagstore, "other", path)
                await dagstore.acquire("other")
            async for _ in steps:
                pass
        assert set(dagstore.counts()) == {AVAILABLE, "ShardStateServing"}
