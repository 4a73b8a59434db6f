"""Standing in: another copy takes over when it is what the index says, and the first one when it is back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from agent.dagstore.dagstore import Dagstore
from agent.dagstore.failures import ShardError
from agent.dagstore.lifecycle import ShardState
from agent.dagstore.records import ShardRecord
from agent.dagstore.scrub import standby
from agent.dagstore.scrub.records import Depth
from agent.dagstore.scrub.standby import order_of, others
from tests.agent.scrub.test_in_dagstore import agent_at
from tests.agent.scrub.worlds import BLOCKS, rot, section_of, write_car
from tests.conftest import ExpectWarning


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "HOME_INTERVAL_S", 0.01)


async def until(dagstore: Dagstore, holds: Callable[[ShardRecord], bool]) -> ShardRecord:
    with trio.fail_after(20):
        while not holds(record := dagstore.record("a")):
            await trio.sleep(0.005)
    return record


async def notice(dagstore: Dagstore) -> None:
    """Somebody wants the data and finds that they are not there."""
    with pytest.raises(ShardError):
        await dagstore.acquire("a")


async def test_a_replica_takes_over_and_the_first_mount_when_it_is_back(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("AVAILABLE -> ERRORED")
    expect_warning("a.car is gone, file://.*c.car takes over")
    expect_warning("a.car is back and takes over again")
    first, second, third = (write_car(tmp_path / f"{name}.car") for name in "abc")
    second.write_bytes(bytes(second.stat().st_size))
    async with agent_at(tmp_path) as (dagstore, _):
        replicas = [second.as_uri(), third.as_uri()]
        await dagstore.register("a", str(first), wait=True, replicas=replicas)
        before = dagstore.record("a")
        first.rename(tmp_path / "away")
        await notice(dagstore)
        record = await until(dagstore, lambda record: record.url == third.as_uri())
        assert (record.state, record.generation) == (ShardState.AVAILABLE.value, before.generation)
        assert (record.path, record.index_path) == (str(third), before.index_path)
        assert record.replicas == (first.as_uri(), second.as_uri())
        assert record.scrub is not None
        assert record.scrub.home == first.as_uri()
        assert (await dagstore.acquire("a")).url == third.as_uri()
    async with agent_at(tmp_path) as (dagstore, scrubber):
        (tmp_path / "away").rename(first)
        record = await until(dagstore, lambda record: record.url == first.as_uri())
        assert (record.replicas, record.state) == (tuple(replicas), ShardState.AVAILABLE.value)
        assert scrubber.state("a").order == ()
        assert (await dagstore.acquire("a")).url == first.as_uri()


async def test_a_shard_whose_mount_was_never_there_is_indexed_from_its_first_replica_that_is(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("INITIALIZING -> ERRORED")
    expect_warning("a.car is gone, file://.*c.car takes over")
    expect_warning("a.car is back and takes over again")
    away, there = write_car(tmp_path / "away"), write_car(tmp_path / "c.car")
    urls = [(tmp_path / f"{name}.car").as_uri() for name in "abc"]
    async with agent_at(tmp_path) as (dagstore, _):
        await dagstore.register("a", urls[0], replicas=urls[1:])
        record = await until(dagstore, lambda record: record.state == ShardState.AVAILABLE.value)
        assert (record.path, record.replicas) == (str(there), tuple(urls[:2]))
        assert record.scrub is not None
        assert record.scrub.home == urls[0]
        away.rename(tmp_path / "a.car")
        record = await until(dagstore, lambda record: record.url == urls[0])
        assert record.replicas == tuple(urls[1:])


async def test_a_shard_that_cannot_be_indexed_though_its_mount_is_there_goes_nowhere_else(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("INITIALIZING -> ERRORED")
    first, second = tmp_path / "a.car", write_car(tmp_path / "b.car")
    first.write_bytes(b"no CAR")
    async with agent_at(tmp_path) as (dagstore, _):
        await dagstore.register("a", str(first), replicas=[second.as_uri()])
        record = await until(dagstore, lambda record: record.state == ShardState.ERRORED.value)
        assert (record.url, record.error_class) == (first.as_uri(), "corrupt")


async def test_where_no_mount_is_there_at_all_it_is_said(
    tmp_path: Path, expect_warning: ExpectWarning, caplog: pytest.LogCaptureFixture
) -> None:
    expect_warning("INITIALIZING -> ERRORED")
    expect_warning("no replica can take over: file://.*a.car: .*; file://.*b.car")
    async with agent_at(tmp_path) as (dagstore, _):
        await dagstore.register("a", str(tmp_path / "a.car"), replicas=[(tmp_path / "b.car").as_uri()])
        await until(dagstore, lambda _: "no replica can take over" in caplog.text)


async def test_no_replica_that_is_not_the_same_data_takes_over(
    tmp_path: Path, expect_warning: ExpectWarning, caplog: pytest.LogCaptureFixture
) -> None:
    expect_warning("AVAILABLE -> ERRORED")
    expect_warning("no replica can take over: .*b.car: it has .* bytes.*c.car: .*no.* section")
    first, other = write_car(tmp_path / "a.car"), tmp_path / "b.car"
    zeros = tmp_path / "c.car"
    other.write_bytes(b"x")
    zeros.write_bytes(bytes(first.stat().st_size))
    async with agent_at(tmp_path) as (dagstore, _):
        await dagstore.register("a", str(first), wait=True, replicas=[other.as_uri(), zeros.as_uri()])
        first.unlink()
        await notice(dagstore)
        record = await until(dagstore, lambda _: "no replica can take over" in caplog.text)
        assert record.state == ShardState.ERRORED.value


async def test_a_container_that_is_broken_is_replaced_by_a_replica(
    tmp_path: Path, expect_warning: ExpectWarning, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, standby.__name__)
    expect_warning("AVAILABLE -> ERRORED")
    expect_warning("a.car is corrupt, file://.*b.car takes over")
    first, second = write_car(tmp_path / "a.car"), write_car(tmp_path / "b.car")
    async with agent_at(tmp_path) as (dagstore, scrubber):
        await dagstore.register("a", str(first), wait=True, replicas=[second.as_uri()])
        rot(first, 3)
        async for _ in scrubber.verify(["a"], depth=Depth.STRUCTURE):
            pass
        record = await until(dagstore, lambda record: record.url == second.as_uri())
        assert (record.state, record.quarantined) == (ShardState.AVAILABLE.value, "")
        # It is there, and its blocks are good; it is not back all the same.
        await until(dagstore, lambda _: caplog.text.count("as it was when it was found corrupt") > 2)
        assert dagstore.record("a").url == second.as_uri()


async def test_a_damaged_replica_stands_in_and_its_bad_blocks_are_found_as_always(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("AVAILABLE -> ERRORED")
    expect_warning("takes over")
    expect_warning("bad block")
    expect_warning("not repaired")
    expect_warning("damaged, 1 bad")
    first, second = write_car(tmp_path / "a.car"), write_car(tmp_path / "b.car")
    async with agent_at(tmp_path) as (dagstore, scrubber):
        await dagstore.register("a", str(first), wait=True, replicas=[second.as_uri()])
        first.unlink()
        await notice(dagstore)
        await until(dagstore, lambda record: record.url == second.as_uri())
        rot(second, section_of(second, BLOCKS[3][0])[0] + 100)
        async for _ in scrubber.verify(["a"], depth=Depth.FULL):
            pass
        summary = dagstore.record("a").scrub
        assert summary is not None
        assert summary.bad == 1


def test_the_order_of_mounts_is_that_of_the_registration_whoever_stands_in() -> None:
    from tests.agent.doctor.test_diagnosis import ROW

    row = ROW.__class__(
        **{name: getattr(ROW, name) for name in ROW.__struct_fields__} | {"replicas": ("r1", "r2")}
    )
    order = order_of(row, ())
    assert order == (row.url, "r1", "r2")
    assert order_of(row, ("home", "r1")) == ("home", "r1")
    assert (others(order, "r1"), others(order, row.url)) == ((row.url, "r2"), ("r1", "r2"))
