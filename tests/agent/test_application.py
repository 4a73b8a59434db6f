"""What the agent answers over HTTP to clients that die, ask too much at once, or send what is too big."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from agent.client import AgentUnreachable, Client
from agent.rpc import post as module
from agent.rpc.jsonrpc import MAX_BODY_BYTES
from agent.rpc.methods import METHODS, Services
from agent.rpc.peers import Permission
from agent.rpc.registry import Method, NoParams
from tests.agent.cars import write_car
from tests.agent.serving import call, request, served_at, socket_over
from tests.agent.stores import LocalWorkers, register
from tests.conftest import ExpectWarning


async def answer(path: Path, data: bytes) -> Any:  # Any: JSON
    async with await trio.open_unix_socket(path / "s") as stream:
        await stream.send_all(data)
        reply = b"".join([chunk async for chunk in stream])
    return json.loads(reply.partition(b"\r\n\r\n")[2])


async def test_a_client_that_dies_in_the_middle_of_its_request_is_not_worth_a_line(tmp_path: Path) -> None:
    async with served_at(tmp_path):
        stream = await trio.open_unix_socket(tmp_path / "s")
        await stream.send_all(request([])[:-1])
        await wait_all_tasks_blocked()
        await stream.aclose()
        await wait_all_tasks_blocked(0.01)  # a traceback in the log would fail the test


async def test_d14_a_call_whose_client_is_gone_holds_nothing_when_its_index_is_done(tmp_path: Path) -> None:
    """D-14: whoever waited in vain is not given a lease that nobody will give back."""
    workers = LocalWorkers()
    workers.hold()
    async with served_at(tmp_path, workers) as served:
        services = served.services
        await register(services.dagstore, "x", write_car(tmp_path / "x.car"), wait=False)
        session = services.leases.open("a mount")
        stream = await trio.open_unix_socket(tmp_path / "s")
        await stream.send_all(request(call("Carfs.AcquireShard", session, "x")))
        await wait_all_tasks_blocked(0.01)
        await stream.aclose()
        await wait_all_tasks_blocked(0.01)
        workers.gate.set()
        await services.dagstore.acquire("x")
        assert services.dagstore.record("x").refs == 1


async def test_a_big_batch_leaves_turns_for_others(tmp_path: Path) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with served_at(tmp_path), trio.open_nursery() as nursery:
        nursery.start_soon(count)
        before = turns
        calls = [call("Filecoin.Version", number=number) for number in range(1000)]
        replies = await answer(tmp_path, request(calls))
        assert [reply["id"] for reply in replies] == list(range(1000))
        assert turns - before > 50
        nursery.cancel_scope.cancel()


async def test_a_batch_is_refused_what_would_not_fit_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BATCH_REPLY_BYTES", 1000)
    async with served_at(tmp_path):
        calls = [call("Filecoin.Version", number=number) for number in range(100)]
        replies = await answer(tmp_path, request(calls))
    assert 5 < sum("result" in reply for reply in replies) < 50
    assert replies[-1]["error"]["data"]["class"] == "invalid"
    assert "this batch have more than" in replies[-1]["error"]["message"]


async def test_a_body_that_is_too_big_is_refused_before_it_is_sent_and_the_client_says_so(
    tmp_path: Path,
) -> None:
    async with served_at(tmp_path):
        async with await trio.open_unix_socket(tmp_path / "s") as stream:
            await stream.send_all(b"POST /rpc/v0 HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 413")
        with pytest.raises(AgentUnreachable, match=f"413: a request body has at most {MAX_BODY_BYTES} bytes"):
            await trio.to_thread.run_sync(Client(tmp_path / "s").call, "f", ["x" * MAX_BODY_BYTES])


@pytest.mark.parametrize("accept", [(), ("accept: application/x-ndjson",)])
async def test_a_result_that_json_cannot_carry_is_a_bug_and_an_answer(
    tmp_path: Path, accept: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, expect_warning: ExpectWarning
) -> None:
    expect_warning("Carfs.Broken failed")

    async def broken(services: Services, params: NoParams) -> str:
        return "\udcff"

    monkeypatch.setitem(METHODS, "Carfs.Broken", Method(Permission.READ, NoParams, broken))
    async with served_at(tmp_path) as served:
        reply = await served.exchange(await served.unix(), request(call("Carfs.Broken"), *accept))
        assert b'"class":"bug"' in reply
        async with socket_over(await served.unix()) as client:
            assert (await client.ask("Carfs.Broken"))["data"] == {"class": "bug"}
