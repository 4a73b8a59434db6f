"""Leases: one a session and shard, and none that outlives its session."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.leases import Leases
from tests.agent.cars import write_car
from tests.agent.stores import LocalWorkers, dagstore_at, register


async def test_d8_a_session_holds_a_shard_or_does_not(tmp_path: Path) -> None:
    """D-8: closing twice released twice and stole somebody else's reference."""
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        leases = Leases(dagstore)
        one, two = leases.open("one"), leases.open("two")
        for session in (one, one, two):
            await leases.acquire(session, "x")
        assert dagstore.record("x").refs == 2
        assert (leases.release(one, "x"), leases.release(one, "x")) == (True, False)
        assert dagstore.record("x").refs == 1
        assert leases.held() == [("one", 0), ("two", 1)]


async def test_what_a_session_held_is_free_when_it_ends(tmp_path: Path) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        leases = Leases(dagstore)
        session = leases.open("one")
        await leases.acquire(session, "x")
        leases.close(session)
        leases.close(session)
        assert dagstore.record("x").refs == 0
        await dagstore.destroy("x")


async def test_whoever_waits_in_a_session_that_ends_is_told_and_holds_nothing(tmp_path: Path) -> None:
    workers = LocalWorkers()
    workers.hold()
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"), wait=False)
        leases = Leases(dagstore)
        session = leases.open("one")

        async def acquire() -> None:
            with pytest.raises(ShardError) as raised:
                await leases.acquire(session, "x")
            assert raised.value.error_class is ErrorClass.NOT_FOUND

        async with trio.open_nursery() as nursery:
            nursery.start_soon(acquire)
            await wait_all_tasks_blocked()
            leases.close(session)
        workers.gate.set()
        other = leases.open("two")
        assert (await leases.acquire(other, "x")).refs == 1


async def test_two_calls_of_one_session_at_once_are_one_lease(tmp_path: Path) -> None:
    workers = LocalWorkers()
    workers.hold()
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"), wait=False)
        leases = Leases(dagstore)
        session = leases.open("one")
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(leases.acquire, session, "x")
            await wait_all_tasks_blocked()
            workers.gate.set()
        assert dagstore.record("x").refs == 1


async def test_there_is_no_lease_without_a_session(tmp_path: Path) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        leases = Leases(dagstore)
        with pytest.raises(ShardError, match="as long as its stream from /events"):
            await leases.acquire("made up", "x")
        assert dagstore.record("x").refs == 0
