"""JSON-RPC over WebSockets against the real server: many calls, streams, cancels, clients that stall or vanish."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from trio_websocket import ConnectionClosed

from agent.rpc import http, outbox
from agent.rpc.jsonrpc import MAX_BODY_BYTES
from tests.agent.cars import write_car
from tests.agent.serving import Served, call, handshake, request, served_at, socket_over
from tests.agent.stores import LocalWorkers, register


async def register_lazily(served: Served, keys: Iterable[str]) -> None:
    car = write_car(served.path / "x.car")
    for key in keys:
        await register(served.services.dagstore, key, car, lazy=True)


async def test_calls_on_one_socket_are_answered_as_they_end(tmp_path: Path) -> None:
    workers = LocalWorkers()
    workers.hold()
    async with served_at(tmp_path, workers) as served, socket_over(await served.unix()) as client:
        await register_lazily(served, "a")
        slow = await client.send("Filecoin.DagstoreInitializeShard", "a")
        for _ in range(200):
            await client.send("Filecoin.Version")
        assert [(await client.next())["id"] for _ in range(200)] == list(range(slow + 1, slow + 201))
        workers.gate.set()
        assert await client.next() == {"jsonrpc": "2.0", "result": None, "id": slow}


async def test_a_batch_is_answered_by_a_batch(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served, socket_over(await served.unix()) as client:
        stream = call("Filecoin.DagstoreInitializeAll", {"MaxConcurrency": 1}, number=3)
        batch = [call("Filecoin.Version", number=1), call("F.none", number=2), stream]
        await client.connection.send_message(json.dumps(batch))
        version, unknown, refused = await client.next()
        assert version["result"]["BlockDelay"] == 0
        assert unknown["error"]["message"] == "method 'F.none' not found"
        assert "cannot be part of a batch" in refused["error"]["message"]


async def test_a_stream_comes_as_lotus_clients_expect_it(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served, socket_over(await served.unix()) as client:
        await register_lazily(served, "ab")
        channel = await client.ask(
            "Filecoin.DagstoreInitializeAll", {"MaxConcurrency": 1, "IncludeSealed": True}
        )
        events = [event async for event in client.values(channel)]
        assert events[1] == {
            "Key": "a", "Event": "end", "Success": True, "Error": "", "Total": 2, "Current": 1,
        }  # fmt: skip
        assert [(event["Key"], event["Event"]) for event in events] == [
            ("a", "start"),
            ("a", "end"),
            ("b", "start"),
            ("b", "end"),
        ]
        assert await client.ask("Filecoin.DagstoreInitializeAll", {"MaxConcurrency": 0}) == channel + 1


async def test_a_stream_that_is_cancelled_closes_and_the_socket_lives_on(tmp_path: Path) -> None:
    workers = LocalWorkers()
    workers.hold()
    async with served_at(tmp_path, workers) as served, socket_over(await served.unix()) as client:
        await register_lazily(served, "abc")
        number = await client.send("Filecoin.DagstoreInitializeAll", {"MaxConcurrency": 1})
        assert (await client.next())["result"] == 1
        assert (await client.next())["params"][1]["Event"] == "start"
        await client.cancel(number)
        assert (await client.next())["method"] == "xrpc.ch.close"
        assert (await client.ask("Filecoin.Version"))["BlockDelay"] == 0
        assert [one["State"] for one in await client.ask("Filecoin.DagstoreListShards")] == [
            "ShardStateInitializing",
            "ShardStateNew",
            "ShardStateNew",
        ]


async def test_a_call_that_is_cancelled_is_answered_so(tmp_path: Path) -> None:
    workers = LocalWorkers()
    workers.hold()
    async with served_at(tmp_path, workers) as served, socket_over(await served.unix()) as client:
        await register_lazily(served, "a")
        number = await client.send("Filecoin.DagstoreInitializeShard", "a")
        await wait_all_tasks_blocked(0.01)
        await client.cancel(number)
        error = (await client.next())["error"]
        assert error == {"code": 1, "message": "context canceled", "data": {"class": "cancelled"}}


async def register_many(served: Served, count: int) -> None:
    """Shards with names that are long, so that what is said of them fills buffers."""
    await register_lazily(served, [f"{number:04}{'k' * 900}" for number in range(count)])


async def test_r2_a_stream_that_nobody_reads_holds_up_nobody_else(tmp_path: Path) -> None:
    """D-7: in the dagstore one waiter with an unread channel stops all deliveries."""
    async with served_at(tmp_path) as served, socket_over(await served.unix()) as deaf:
        await register_many(served, 400)
        await deaf.send("Filecoin.DagstoreInitializeAll", {"MaxConcurrency": 1})
        with trio.fail_after(30):
            async with socket_over(await served.unix()) as other:
                for _ in range(50):
                    await other.ask("Filecoin.Version")
                assert await other.ask("Filecoin.DagstoreInitializeShard", f"0399{'k' * 900}") is None
        assert "ShardStateNew" in served.services.dagstore.counts()  # the stream waits for its reader


async def test_d7_a_client_that_takes_nothing_is_cut(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with served_at(tmp_path) as served:
        await register_many(served, 300)
        async with await served.unix() as stream:
            before = trio.current_time()
            await stream.send_all(request([call("Filecoin.DagstoreListShards", number=n) for n in range(9)]))
            await trio.sleep(http.STALL_S + 2 * http.STALL_CHECKED_S)
            reply = b"".join([chunk async for chunk in stream])
        head, _, body = reply.partition(b"\r\n\r\n")
        assert trio.current_time() - before < 2 * http.STALL_S
        assert int(head.partition(b"content-length: ")[2].split()[0]) > len(body)
        async with socket_over(await served.unix()) as deaf:
            for _ in range(9):
                await deaf.send("Filecoin.DagstoreListShards")
            await trio.sleep(http.STALL_S + 2 * http.STALL_CHECKED_S)
            with pytest.raises(ConnectionClosed):
                while True:
                    await deaf.next()


async def test_whoever_asks_for_more_than_it_reads_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "LIMIT_BYTES", 1_000_000)
    async with served_at(tmp_path) as served:
        await register_many(served, 300)
        async with socket_over(await served.unix()) as deaf:
            with pytest.raises(ConnectionClosed):
                for _ in range(100):
                    await deaf.send("Filecoin.DagstoreListShards")
                    await wait_all_tasks_blocked()


async def test_what_a_client_began_ends_with_it(tmp_path: Path) -> None:
    """D-14: nothing is waited for that nobody will hear of."""
    workers = LocalWorkers()
    workers.hold()
    async with served_at(tmp_path, workers) as served:
        await register_lazily(served, "a")
        async with socket_over(await served.unix()) as client:
            session = served.services.leases.open("a mount")
            await client.send("Carfs.AcquireShard", session, "a")
            await wait_all_tasks_blocked(0.01)
        await wait_all_tasks_blocked(0.01)
        workers.gate.set()
        await served.services.dagstore.acquire("a")
        assert served.services.dagstore.record("a").refs == 1


async def test_binary_frames_are_as_good_as_text(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served, socket_over(await served.unix()) as client:
        await client.connection.send_message(json.dumps(call("Filecoin.Version")).encode())
        assert (await client.next())["result"]["BlockDelay"] == 0


async def test_a_message_that_is_too_big_ends_the_connection(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served, socket_over(await served.unix()) as client:
        with pytest.raises(ConnectionClosed) as raised:
            await client.connection.send_message("x" * (MAX_BODY_BYTES + 1))
            await client.next()
        assert raised.value.reason is not None
        assert raised.value.reason.code == 1009


async def test_a_message_without_an_end_is_not_kept(tmp_path: Path) -> None:
    frame = b"\x81\xff" + (1 << 40).to_bytes(8) + bytes(4)
    async with served_at(tmp_path) as served, await served.unix() as stream:
        await stream.send_all(handshake() + frame)
        with trio.fail_after(30), pytest.raises(trio.BrokenResourceError):
            for _ in range(100):
                await stream.send_all(b"x" * 1_000_000)


async def test_a_subprotocol_is_agreed_to_as_go_jsonrpc_does(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served, await served.unix() as stream:
        await stream.send_all(handshake("sec-websocket-protocol: jsonrpc, other"))
        assert b"sec-websocket-protocol: jsonrpc\r\n" in (await stream.receive_some()).lower()


@pytest.mark.parametrize(
    "junk",
    [b"\xff" * 100, b"\x81\x05hello", b"\x88\x00", b"\x81\xff" + b"\x7f" * 8 + b"maskdata", b"\xc1\x80abcd"],
)
async def test_frames_that_are_none_end_one_connection_quietly(tmp_path: Path, junk: bytes) -> None:
    async with served_at(tmp_path) as served:
        async with await served.unix() as stream:
            await stream.send_all(handshake())
            await stream.receive_some()
            with trio.fail_after(10):
                await stream.send_all(junk)
                await stream.send_eof()
                assert [chunk async for chunk in stream] != [b"more"]  # it ends
        async with socket_over(await served.unix()) as client:
            assert (await client.ask("Filecoin.Version"))["BlockDelay"] == 0


async def test_when_the_agent_stops_calls_are_answered_and_clients_told(tmp_path: Path) -> None:
    workers = LocalWorkers()
    workers.hold()
    async with served_at(tmp_path, workers) as served, socket_over(await served.unix()) as client:
        await register_lazily(served, "ab")
        stream = await client.send("Filecoin.DagstoreInitializeAll", {"MaxConcurrency": 1})
        waiting = await client.send("Filecoin.DagstoreInitializeShard", "b")
        assert (await client.next())["id"] == stream
        await client.next()
        served.services.stop.set()
        served.services.dagstore.stop()
        last = []
        with pytest.raises(ConnectionClosed) as raised:
            while True:
                last.append(await client.next())
        assert raised.value.reason is not None
        assert raised.value.reason.code == 1001
        assert {one["error"]["message"] for one in last if one.get("id") == waiting} == {
            "the agent is stopping"
        }
        assert {"jsonrpc": "2.0", "method": "xrpc.ch.close", "params": [1]} in last
