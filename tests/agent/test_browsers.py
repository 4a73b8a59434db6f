"""A page in a browser does not reach the agent, whatever name it has made point to this machine."""

from __future__ import annotations

import pytest

from agent.rpc.browsers import host_name, refusal


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:3453",
        "localhost:3453",
        "localhost",
        "LOCALHOST",
        "[::1]:3453",
        "[::1]",
        "10.1.2.3",
        "mine:1",
    ],
)
def test_addresses_localhost_and_configured_names_are_good(host: str) -> None:
    assert refusal(host, None, hosts={"mine"}, origins=()) == ""


@pytest.mark.parametrize(
    "host",
    [
        "",
        "attacker.example:3453",
        "localhost.attacker.example",
        "127.0.0.1.attacker.example",
        "::1.x",
        "[x]",
        "1",
    ],
)
def test_a_name_that_could_be_rebound_is_refused(host: str) -> None:
    assert "is not one of rpc.allowed_hosts" in refusal(host, None, hosts={"mine"}, origins=())


@pytest.mark.parametrize("origin", ["http://localhost:3453", "null", "https://attacker.example", ""])
def test_a_page_is_refused_unless_it_is_configured(origin: str) -> None:
    allowed = {"https://mine.example"}
    assert "is not one of rpc.allowed_origins" in refusal("localhost", origin, hosts=(), origins=allowed)
    assert refusal("localhost", "https://mine.example", hosts=(), origins=allowed) == ""


@pytest.mark.parametrize(
    ("host", "name"), [("A.b.:1", "a.b"), ("[FE80::1]:2", "fe80::1"), ("x", "x"), ("[::1", "::1")]
)
def test_the_name_is_what_is_left_without_port_and_brackets(host: str, name: str) -> None:
    assert host_name(host) == name
