"""Over TCP nobody vouches for a client but its token: what comes without one, and what each level may."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed

from agent.rpc.access import Rules
from agent.rpc.binds import BindError, TcpBind
from agent.rpc.http import serve
from tests.agent.serving import Served, call, handshake, request, served_at, socket_over

VERSION = call("Filecoin.Version")
LEVELS = ["read", "write", "sign", "admin"]


async def post(served: Served, body: Any, *headers: str) -> tuple[int, Any]:  # Any: JSON
    """The status and what came back, as JSON where it is."""
    reply = await served.exchange(await served.tcp(), request(body, *headers))
    head, _, content = reply.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    return status, json.loads(content) if status == 200 else content.decode()


def bearer(served: Served, level: str) -> str:
    token = served.services.tokens.issue(LEVELS[: LEVELS.index(level) + 1])
    return f"authorization: Bearer {token}"


async def test_without_a_token_nobody_comes_in(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served:
        assert await post(served, VERSION) == (
            401,
            "a token is needed: Authorization: Bearer TOKEN (see carfs auth create-token)",
        )
        for header in ("Basic eDp5", "Bearer", "Bearer ", "Bearer x.y.z", "bearer"):
            assert (await post(served, VERSION, f"authorization: {header}"))[0] == 401
        async with await served.tcp() as stream:
            await stream.send_all(handshake())
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 401")


async def test_events_need_a_token_too(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served:
        asked = b"GET /events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        assert (await served.exchange(await served.tcp(), asked)).startswith(b"HTTP/1.1 401")


async def test_a_token_of_one_level_is_refused_the_next(tmp_path: Path) -> None:
    needed = {
        "read": "Filecoin.DagstoreListShards",
        "write": "Filecoin.DagstoreRecoverShard",
        "admin": "Filecoin.DagstoreRegisterShard",
    }
    async with served_at(tmp_path) as served:
        for level in LEVELS:
            for need, method in needed.items():
                status, reply = await post(served, call(method, "none"), bearer(served, level))
                assert status == 200
                words = f"missing permission to invoke '{method.removeprefix('Filecoin.')}' (need '{need}')"
                refused = LEVELS.index(level) < LEVELS.index(need)
                assert (reply.get("error", {}).get("message") == words) is refused


async def test_lotus_clients_put_the_token_into_the_query_of_a_websocket(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served:
        token = served.services.tokens.issue(["read"])
        for path in ("/rpc/v0", "/rpc/v1"):
            async with socket_over(await served.tcp(), f"{path}?token={token}") as client:
                assert (await client.ask("Filecoin.Version"))["BlockDelay"] == 0
                error = await client.ask("Filecoin.DagstoreGC")
                assert error["message"] == "missing permission to invoke 'DagstoreGC' (need 'admin')"


async def test_a_content_type_does_not_matter_since_lotus_clients_send_text(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served:
        plain = "content-type: text/plain;charset=UTF-8"
        assert (await post(served, VERSION, bearer(served, "read"), plain))[0] == 200


async def test_revoking_ends_tokens_and_the_connections_that_live_on_them(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served:
        token = served.services.tokens.issue(["admin"])
        async with socket_over(await served.tcp(), token=token) as client:
            await client.ask("Filecoin.Version")
            served.services.tokens.rotate()
            with pytest.raises(ConnectionClosed):
                await client.next()
        assert (await post(served, VERSION, f"authorization: Bearer {token}"))[0] == 401
        assert (await post(served, VERSION, bearer(served, "read")))[0] == 200


async def test_a_page_in_a_browser_is_refused_before_its_token_is_looked_at(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served:
        token = bearer(served, "admin")
        status, why = await post(served, VERSION, token, "origin: https://attacker.example")
        assert (status, why) == (
            403,
            "the origin 'https://attacker.example' is not one of rpc.allowed_origins",
        )
        rebound = request(VERSION, token).replace(b"host: localhost", b"host: attacker.example")
        assert (await served.exchange(await served.tcp(), rebound)).startswith(b"HTTP/1.1 403")


async def test_a_page_that_is_configured_may_call_as_browsers_do(tmp_path: Path) -> None:
    rules = Rules(origins=("https://mine.example",), hosts=("carfs.example",))
    async with served_at(tmp_path, rules=rules) as served:
        origin = "origin: https://mine.example"
        asks_first = request("", origin, "access-control-request-method: POST").replace(
            b"POST", b"OPTIONS", 1
        )
        preflight = await served.exchange(await served.tcp(), asks_first)
        assert b"access-control-allow-origin: https://mine.example" in preflight
        asked = request(VERSION, origin, bearer(served, "read")).replace(
            b"host: localhost", b"host: carfs.example"
        )
        reply = await served.exchange(await served.tcp(), asked)
        assert reply.startswith(b"HTTP/1.1 200")
        assert b"access-control-allow-origin: https://mine.example" in reply


async def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served:
        bind = TcpBind("127.0.0.1", served.port)
        with pytest.raises(
            BindError, match=rf"cannot listen on 127\.0\.0\.1:{served.port}: Address already in use"
        ):
            await serve(None, [bind], trio.Event())  # type: ignore[arg-type]  # it does not come so far


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("127.0.0.1:3453", TcpBind("127.0.0.1", 3453)),
        ("localhost:0", TcpBind("127.0.0.1", 0)),
        ("[::1]:80", TcpBind("::1", 80)),
        ("0.0.0.0:1", TcpBind("0.0.0.0", 1)),
    ],
)
def test_an_address_is_parsed_and_shown(text: str, bind: TcpBind) -> None:
    assert TcpBind.parse(text) == bind
    assert TcpBind.parse(str(bind)) == bind
    assert bind.is_loopback is not text.startswith("0")


@pytest.mark.parametrize(
    "text", ["", ":80", "127.0.0.1", "host:80", "127.0.0.1:x", "1.2.3.4:70000", "[::1]", "::1:٣"]
)
def test_what_is_no_address_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:3453|is not an IP address"):
        TcpBind.parse(text)
