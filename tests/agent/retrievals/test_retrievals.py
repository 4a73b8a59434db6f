"""Retrievals from a real gateway over HTTP: whole, in parts, gone on with, called off, after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.retrievals.records import Wanted
from agent.retrievals.settings import RetrievalConfig
from agent.retrievals.transitions import ENDED, TABLE, Event, State, step
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from tests.agent.gateway.test_gateway import serve_tree
from tests.agent.gateway.worlds import gateway_at
from tests.agent.retrievals.worlds import retrievals_at
from tests.conftest import ExpectWarning


def blocks(path: Path) -> set[Cid]:
    with ReadOnlyBlockstore.open(path) as store:
        return {cid for cid, _ in store.cids() if store.get(cid) is not None}


def test_the_table_leads_everywhere_and_an_end_is_left_only_by_who_asks_again() -> None:
    assert {state for state, _ in TABLE} == set(State)
    for state in ENDED:
        assert [event for event in Event if step(state, event) is not None] == [Event.AGAIN]


async def test_a_dag_comes_whole_into_a_final_car_and_is_not_fetched_twice(tmp_path: Path) -> None:
    async with gateway_at(tmp_path / "far") as served, retrievals_at(tmp_path) as retrievals:
        car, root = await serve_tree(served, tmp_path / "far")
        with trio.fail_after(60):
            number = retrievals.start(Wanted(str(root)), [served.url])
            record = await retrievals.wait(number)
        assert record.state == "RetrievalStateDone"
        assert blocks(Path(record.car_path)) == blocks(car)
        assert (record.blocks, record.wasted, record.source) == (len(blocks(car)), 0, served.url)
        before = served.serving.answering.sent_bytes
        again = retrievals.start(Wanted(root.encode("base58btc")))
        assert again == number
        assert (await retrievals.wait(again)).generation == 1
        assert served.serving.answering.sent_bytes == before


async def test_a_part_that_cannot_be_had_is_not_asked_for_with_the_next_one(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("no entry 'none'")
    async with gateway_at(tmp_path / "far") as served, retrievals_at(tmp_path) as retrievals:
        _, root = await serve_tree(served, tmp_path / "far")
        with trio.fail_after(60):
            await retrievals.wait(retrievals.start(Wanted(str(root), path="hello.txt"), [served.url]))
            number = retrievals.start(Wanted(str(root), path="none"))
            with pytest.raises(ShardError) as caught:
                await retrievals.wait(number)
            assert caught.value.error_class is ErrorClass.NOT_FOUND
            assert retrievals.start(Wanted(str(root))) == number
            assert (await retrievals.wait(number)).state == "RetrievalStateDone"


async def test_a_part_first_and_then_the_rest_into_the_same_car(tmp_path: Path) -> None:
    async with gateway_at(tmp_path / "far") as served, retrievals_at(tmp_path) as retrievals:
        car, root = await serve_tree(served, tmp_path / "far")
        with trio.fail_after(60):
            number = retrievals.start(Wanted(str(root), path="hello.txt"), [served.url])
            part = await retrievals.wait(number)
            assert part.blocks == 2
            assert retrievals.start(Wanted(str(root))) == number
            whole = await retrievals.wait(number)
        assert whole.generation == 2
        assert blocks(Path(whole.car_path)) == blocks(car)
        assert whole.blocks == len(blocks(car))


async def test_what_was_under_way_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with gateway_at(tmp_path / "far") as served:
        car, root = await serve_tree(served, tmp_path / "far")
        async with retrievals_at(tmp_path) as retrievals:
            number = retrievals.start(Wanted(str(root), lazy=True), [served.url])
            with trio.fail_after(60):
                await retrievals.want(number, [root])
        async with retrievals_at(tmp_path) as retrievals:
            assert retrievals.numbers() == [number]
            assert retrievals.start(Wanted(str(root)), [served.url]) == number
            with trio.fail_after(60):
                while retrievals.record(number).blocks < len(blocks(car)) - 1:
                    await trio.sleep(0.01)
            assert retrievals.record(number).wasted == 0


async def test_whoever_waits_for_what_is_not_in_it_is_told_at_its_end(tmp_path: Path) -> None:
    async with gateway_at(tmp_path / "far") as served, retrievals_at(tmp_path) as retrievals:
        _car, root = await serve_tree(served, tmp_path / "far")
        other = Cid.of(b"nobody has this")
        number = retrievals.start(Wanted(str(root), lazy=True), [served.url])
        with trio.fail_after(60):
            await retrievals.want(number, [root])
            with pytest.raises(ShardError, match="is not here"):
                await retrievals.want(number, [root, other])
            assert retrievals.start(Wanted(str(root), path="hello.txt")) == number
            await retrievals.want(number, [root])  # it was begun anew, and goes on serving
            await retrievals.cancel(number)
            with pytest.raises(ShardError, match="it was cancelled"):
                await retrievals.want(number, [other])


async def test_nobody_has_it_is_an_error_and_asking_again_tries_again(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("retrieval of bafk.* failed")
    lost = str(Cid.of(b"nobody has this"))
    async with gateway_at(tmp_path / "far") as served, retrievals_at(tmp_path) as retrievals:
        with trio.fail_after(60):
            number = retrievals.start(Wanted(lost), [served.url])
            for _ in range(2):
                with pytest.raises(ShardError, match="Retrieval Error") as caught:
                    await retrievals.wait(number)
                assert caught.value.error_class is ErrorClass.NOT_FOUND
                assert retrievals.start(Wanted(lost)) == number


async def test_cancelled_it_keeps_what_has_come_and_removed_it_keeps_nothing(tmp_path: Path) -> None:
    async with gateway_at(tmp_path / "far") as served, retrievals_at(tmp_path) as retrievals:
        _car, root = await serve_tree(served, tmp_path / "far")
        number = retrievals.start(Wanted(str(root), lazy=True), [served.url])
        with trio.fail_after(60):
            await retrievals.want(number, [root])
            await retrievals.cancel(number)
            with pytest.raises(ShardError, match="cancelled externally"):
                await retrievals.wait(number)
        assert retrievals.path(number).exists()
        retrievals.acquire(number)
        with pytest.raises(ShardError, match="in use: 1 leases"):
            await retrievals.remove(number)
        retrievals.release(number)
        await retrievals.remove(number)
        assert not retrievals.path(number).exists()
        assert retrievals.numbers() == []


@pytest.mark.parametrize("limit", [1, 2])
async def test_as_many_are_fetched_at_once_as_allowed(tmp_path: Path, limit: int) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")  # that take connections and say nothing
    url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    config = RetrievalConfig(max_concurrent=limit)
    async with retrievals_at(tmp_path, config=config) as retrievals:
        numbers = [retrievals.start(Wanted(str(Cid.of(b"%d" % number))), [url]) for number in range(4)]

        def states() -> list[str]:
            return [retrievals.record(number).state for number in numbers]

        with trio.fail_after(30):
            while states().count("RetrievalStateFetching") < limit:
                await trio.sleep(0.01)
        await trio.sleep(0.2)
        assert states().count("RetrievalStateFetching") == limit
        fetched = next(number for number in numbers if "Fetching" in retrievals.record(number).state)
        await retrievals.cancel(fetched)
        with trio.fail_after(30):
            while states().count("RetrievalStateFetching") < limit:
                await trio.sleep(0.01)
    for listener in listeners:
        await listener.aclose()
