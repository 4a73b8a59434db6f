"""Streams as NDJSON over HTTP: a line for each value, for curl and whoever has no WebSocket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agent.dagstore.failures import ErrorClass, ShardError
from agent.rpc import post, registry
from agent.rpc.peers import Permission
from agent.rpc.registry import METHODS, NoParams, Values
from agent.rpc.services import Services
from tests.agent.cars import write_car
from tests.agent.serving import Served, call, request, served_at
from tests.agent.stores import LocalWorkers, register

ACCEPT = "accept: application/x-ndjson"
INITIALISE_ALL = call("Filecoin.DagstoreInitializeAll", {"MaxConcurrency": 1})


def chunks(reply: bytes) -> bytes:
    """The body of a chunked response; fails if it was cut short."""
    rest, body = reply.partition(b"\r\n\r\n")[2], b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            return body
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]


async def lines(served: Served, body: Any) -> list[Any]:  # Any: JSON
    reply = await served.exchange(await served.unix(), request(body, ACCEPT))
    assert b"content-type: application/x-ndjson" in reply
    return [json.loads(line) for line in chunks(reply).splitlines() if line]


async def test_each_value_is_a_line_and_the_end_is_the_end(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served:
        await register(served.services.dagstore, "a", write_car(tmp_path / "x.car"), lazy=True)
        start, end = await lines(served, INITIALISE_ALL)
        assert (start["Event"], end["Event"], end["Success"]) == ("start", "end", True)
        assert await lines(served, INITIALISE_ALL) == []


async def test_a_method_that_gives_no_stream_replies_as_ever(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served:
        for body, id_ in ((call("Filecoin.Version", number=5), 5), (call("F.none", number=6), 6)):
            reply = await served.exchange(await served.unix(), request(body, ACCEPT))
            assert json.loads(reply.partition(b"\r\n\r\n")[2])["id"] == id_


async def test_without_lines_and_channels_a_stream_is_refused_in_lotus_words(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served:
        reply = await served.exchange(await served.unix(), request(INITIALISE_ALL))
        error = json.loads(reply.partition(b"\r\n\r\n")[2])["error"]
        assert error["code"] == -32601
        assert "not supported in this mode (no out channel support)" in error["message"]
        assert "accept application/x-ndjson" in error["message"]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Carfs.Broken`: a stream that gives a value and then fails."""

    async def stream(services: Services, params: NoParams) -> Values:
        @asynccontextmanager
        async def values() -> AsyncIterator[AsyncIterator[object]]:
            async def each() -> AsyncIterator[object]:
                yield 1
                raise ShardError(ErrorClass.NO_SPACE, "no room", key="x")

            yield each()

        return values()

    monkeypatch.setitem(
        METHODS, "Carfs.Broken", registry.Method(Permission.READ, NoParams, stream, is_stream=True)
    )


async def test_a_stream_that_breaks_off_says_why_in_its_last_line(tmp_path: Path, broken: None) -> None:
    async with served_at(tmp_path) as served:
        data = {"class": "no-space", "key": "x"}
        assert await lines(served, call("Carfs.Broken")) == [
            1,
            {"error": {"code": -32006, "message": "no room", "data": data}},
        ]


async def test_a_stream_with_nothing_to_say_shows_that_it_lives(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    workers = LocalWorkers()
    workers.hold()
    async with served_at(tmp_path, workers) as served:
        await register(served.services.dagstore, "a", write_car(tmp_path / "x.car"), lazy=True)
        async with await served.unix() as stream:
            await stream.send_all(request(INITIALISE_ALL, ACCEPT))
            await trio.sleep(3.5 * post.PING_INTERVAL_S)
            workers.gate.set()
            reply = b"".join([chunk async for chunk in stream])
        assert [line for line in chunks(reply).splitlines() if not line] == [b""] * 3


async def test_who_hangs_up_calls_off_what_has_not_begun(tmp_path: Path) -> None:
    workers = LocalWorkers()
    workers.hold()
    async with served_at(tmp_path, workers) as served:
        for key in "ab":
            await register(served.services.dagstore, key, write_car(tmp_path / "x.car"), lazy=True)
        async with await served.unix() as stream:
            await stream.send_all(request(INITIALISE_ALL, ACCEPT))
            await stream.receive_some()
        await wait_all_tasks_blocked(0.01)
        assert served.services.dagstore.counts() == {"ShardStateInitializing": 1, "ShardStateNew": 1}
