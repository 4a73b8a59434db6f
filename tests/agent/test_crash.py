"""Killed at any point: what was acknowledged is there, what was begun is finished, and no half index is served."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from agent.catalogue import Catalogue
from agent.client import AgentUnreachable
from agent.dagstore.failures import ErrorClass, Failure, ShardError
from agent.dagstore.records import Transition
from agent.dagstore.registering import Registration
from carlib import indexing
from tests.agent.cars import write_car
from tests.agent.processes import AgentProcess, until
from tests.agent.stores import BY_HAND, LocalWorkers, StoreAround, dagstore_at, register
from tests.conftest import ExpectWarning

ROUNDS = 6
SHARDS = (
    40  # a round at most: what is being indexed when the kill comes is begun again in each round that follows
)


def register_until_it_dies(agent: AgentProcess, path: Path, name: str, acknowledged: set[str]) -> None:
    """Registers one shard after another; notes each one that was answered."""
    for number in range(SHARDS):
        key = f"{name}/{number}"
        try:
            agent.register(key, path, wait=False)
        except AgentUnreachable:
            return
        acknowledged.add(key)


@pytest.mark.slow
def test_d11_no_acknowledged_shard_is_lost_and_each_becomes_available_however_often_it_is_killed(
    tmp_path: Path,
) -> None:
    """I-1, D-1, D-11: kill -9 at random moments while shards are registered and indexed."""
    chance = random.Random(7)
    path = write_car(tmp_path / "x.car", blocks=30_000)
    indexing.build(path, tmp_path / "expected.idx")
    acknowledged: set[str] = set()
    for name in map(str, range(ROUNDS)):
        with AgentProcess(tmp_path / "a", environ={"CARFS_WORKERS_COUNT": "2"}) as agent:
            assert acknowledged <= agent.states().keys()
            arguments = (agent, path, name, acknowledged)
            thread = threading.Thread(target=register_until_it_dies, args=arguments)
            thread.start()
            thread.join(chance.uniform(0, 0.5))
            agent.kill()
            thread.join()
    with AgentProcess(tmp_path / "a") as agent:
        until(lambda: set(agent.states().values()) == {"Available"})
        assert acknowledged <= agent.states().keys()
        records = agent.client.call("Carfs.ListShards")
        expected = (tmp_path / "expected.idx").read_bytes()
        assert all(Path(record["IndexPath"]).read_bytes() == expected for record in records)
        named = {record["IndexPath"] for record in records}
        until(lambda: named == {str(found) for found in agent.path.rglob("*") if ".idx" in found.name})
    assert len(acknowledged) > ROUNDS


class PowerCut(BaseException):
    """The process is no more."""


class FailingStore(StoreAround):
    """A catalogue after whose nth write, or before it, the power goes."""

    def __init__(self, store: Catalogue, writes: int, *, before: bool) -> None:
        super().__init__(store)
        self.left = writes
        self._before = before

    def around(self, write: Callable[[], None], lines: Sequence[Transition]) -> None:
        self.left -= 1
        if self.left > 0 or (self.left == 0 and not self._before):
            write()
        if self.left <= 0:  # other tasks may run on for a moment, but they write nothing
            raise PowerCut


async def live(tmp_path: Path, writes: int, before: bool, done: list[str]) -> None:
    """A shard's whole life, with six writes; says in `done` what was acknowledged."""
    catalogue = Catalogue.open(tmp_path / "carfs.db")
    try:
        store = FailingStore(catalogue, writes, before=before)
        async with dagstore_at(tmp_path, store=store) as dagstore:
            await register(dagstore, "x", tmp_path / "x.car", wait=False)
            done.append("registered")
            await dagstore.acquire("x")
            dagstore.release("x")
            write_car(tmp_path / "x.car", blocks=7)
            await dagstore.acquire("x")
            dagstore.release("x")
            await dagstore.destroy("x")
            done.append("destroyed")
            await register(dagstore, "y", tmp_path / "x.car", lazy=True)
    finally:
        catalogue.close()


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("writes", range(1, 7))
async def test_the_power_goes_at_each_durable_write_and_the_next_start_converges(
    tmp_path: Path, writes: int, before: bool, expect_warning: ExpectWarning
) -> None:
    if writes > 3 or (
        writes == 3 and before
    ):  # the third write says that the data changed, and is logged after it
        expect_warning("RECOVERING: the data changed")
    write_car(tmp_path / "x.car")
    done: list[str] = []
    with pytest.raises(BaseException) as raised:  # a PowerCut, perhaps in groups of nurseries
        await live(tmp_path, writes, before, done)
    assert "PowerCut" in repr(raised.value)
    async with dagstore_at(tmp_path) as dagstore:
        keys = dagstore.list_keys()
        if writes < 5 and done:  # registered, and nobody has asked to destroy it yet
            assert keys == ["x"]
        if "destroyed" in done:
            assert "x" not in keys
        for key in keys:
            with trio.fail_after(10):
                record = await dagstore.acquire(key)
            assert record.index_path is not None
            assert record.path is not None
            indexing.build(Path(record.path), tmp_path / "expected")
            assert Path(record.index_path).read_bytes() == (tmp_path / "expected").read_bytes()
    assert len(list((tmp_path / "index").glob("*.idx"))) == len(keys)


WRITES = 20  # of the life below


async def live_otherwise(tmp_path: Path, store: FailingStore, done: set[str]) -> None:
    """All that the life above leaves out: many at once, reports, recoveries, what is called off, goes, comes back."""
    workers = LocalWorkers()
    settings = msgspec.structs.replace(BY_HAND, max_concurrent_index=1)
    async with dagstore_at(tmp_path, store=store, workers=workers, settings=settings) as dagstore:
        lazy = [Registration(key, str(tmp_path / f"{key}.car"), lazy=True) for key in ("a", "b")]
        assert await dagstore.register_all(lazy) == [None, None]
        done |= {"a", "b"}
        await register(dagstore, "q", tmp_path / "q.car")
        done.add("q")
        dagstore.fail("q", Failure(ErrorClass.CORRUPT, "found bad"), quarantined="block 7")
        await dagstore.recover("q")
        workers.hold()
        await register(dagstore, "slow", tmp_path / "a.car", wait=False)
        done.add("slow")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dagstore.acquire, "a")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        workers.gate.set()
        await dagstore.acquire("slow")
        async with dagstore.initialise_all() as steps:
            async for step in steps:
                assert step.success or step.event == "start"
        (tmp_path / "q.car").rename(tmp_path / "q.away")
        with pytest.raises(ShardError):
            await dagstore.acquire("q")
        (tmp_path / "q.away").rename(tmp_path / "q.car")
        await dagstore.acquire("q")
        copy = str(write_car(tmp_path / "copy.car"))
        await dagstore.register("t", str(tmp_path / "a.car"), wait=True, existing_transient=copy)
        done.add("t")
        (tmp_path / "copy.car").unlink()
        await dagstore.acquire("t")


async def cut_off(tmp_path: Path, writes: int, before: bool) -> set[str]:
    """That life, until the power goes; what was acknowledged. All files are there afterwards."""
    done: set[str] = set()
    for key in ("a", "b", "q"):
        write_car(tmp_path / f"{key}.car")
    with closing(Catalogue.open(tmp_path / "carfs.db")) as catalogue:
        store = FailingStore(catalogue, writes, before=before)
        try:
            await live_otherwise(tmp_path, store, done)
        except BaseException as error:  # a PowerCut, perhaps in groups of nurseries
            assert "PowerCut" in repr(error), error
            assert writes <= WRITES, "there are more writes than WRITES says"
        else:
            assert store.left == writes - WRITES, "WRITES is not how many there are"
    if not (tmp_path / "q.car").exists():
        (tmp_path / "q.away").rename(tmp_path / "q.car")
    return done


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("writes", range(1, WRITES + 2))
async def test_the_power_goes_at_each_write_of_another_life_and_the_next_start_converges(
    tmp_path: Path, writes: int, before: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "agent.dagstore.steps")  # which warnings come depends on when the power goes
    done = await cut_off(tmp_path, writes, before)
    async with dagstore_at(tmp_path) as dagstore:
        assert done <= set(dagstore.list_keys())
        with trio.fail_after(20):
            for key in dagstore.list_keys():
                record = dagstore.record(key)
                assert (record.quarantined != "") <= (record.error == "found bad")
                try:
                    record = await dagstore.acquire(key)
                except ShardError:
                    await dagstore.recover(key)
                    record = await dagstore.acquire(key)
                assert record.path is not None and record.index_path is not None
                indexing.build(Path(record.path), tmp_path / "expected")
                assert Path(record.index_path).read_bytes() == (tmp_path / "expected").read_bytes()
            keys = dagstore.list_keys()
    async with dagstore_at(tmp_path) as dagstore:
        assert dagstore.list_keys() == keys
        assert len(list((tmp_path / "index").rglob("*.idx"))) == len(keys)
