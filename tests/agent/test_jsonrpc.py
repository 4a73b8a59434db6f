"""JSON-RPC 2.0: the specification's own examples, and nothing but answers for anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rpc import jsonrpc
from agent.rpc.jsonrpc import MAX_BATCH, Call, ErrorObject, Incoming, Rejected

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def exchange(body: str, *outcomes: Any) -> Any:  # Any: JSON
    reply = jsonrpc.encode(jsonrpc.decode(body.encode()), list(outcomes))
    return None if reply is None else json.loads(reply)


def error(code: int, identity: Any = None) -> Any:
    return {"jsonrpc": "2.0", "error": {"code": code, "data": {"class": "invalid"}}, "id": identity}


def without_message(reply: Any) -> Any:
    for one in reply if isinstance(reply, list) else [reply]:
        if "error" in one:
            assert one["error"].pop("message")
    return reply


def test_a_call_is_answered_under_its_id() -> None:
    body = '{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}'
    assert jsonrpc.decode(body.encode()) == Incoming((Call("subtract", [42, 23], 1),), is_batch=False)
    assert exchange(body, 19) == {"jsonrpc": "2.0", "result": 19, "id": 1}
    failed = ErrorObject(-32001, "gone", {"class": "gone"})
    assert exchange(body, failed)["error"] == {"code": -32001, "message": "gone", "data": {"class": "gone"}}


def test_a_null_result_is_a_result() -> None:
    assert exchange('{"jsonrpc": "2.0", "method": "f", "id": "x"}', None) == {
        "jsonrpc": "2.0",
        "result": None,
        "id": "x",
    }


def test_a_notification_is_not_answered_even_if_it_fails() -> None:
    assert exchange('{"jsonrpc": "2.0", "method": "update", "params": [1]}', ErrorObject(1, "no")) is None


@pytest.mark.parametrize(
    ("body", "code", "identity"),
    [
        ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', jsonrpc.PARSE_ERROR, None),
        ("", jsonrpc.PARSE_ERROR, None),
        ("[" * 100_000, jsonrpc.PARSE_ERROR, None),
        ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', jsonrpc.INVALID_REQUEST, None),
        ('{"jsonrpc": "2.0", "method": "f", "params": "bar", "id": 7}', jsonrpc.INVALID_REQUEST, 7),
        ('{"jsonrpc": "1.0", "method": "f", "id": 7}', jsonrpc.INVALID_REQUEST, 7),
        ('{"jsonrpc": "2.0", "method": "f", "id": {}}', jsonrpc.INVALID_REQUEST, None),
        ('{"jsonrpc": "2.0", "method": "f", "id": true}', jsonrpc.INVALID_REQUEST, None),
        ("[]", jsonrpc.INVALID_REQUEST, None),
        ("1", jsonrpc.INVALID_REQUEST, None),
        (json.dumps([1] * (MAX_BATCH + 1)), jsonrpc.INVALID_REQUEST, None),
    ],
    ids=range(11),
)
def test_what_is_no_request_gets_one_error(body: str, code: int, identity: Any) -> None:
    assert without_message(exchange(body)) == error(code, identity)


def test_a_batch_is_answered_in_order_without_its_notifications() -> None:
    body = json.dumps(
        [
            {"jsonrpc": "2.0", "method": "sum", "params": [1, 2, 4], "id": "1"},
            {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
            {"foo": "boo"},
            {"jsonrpc": "2.0", "method": "get", "params": {"name": "me"}, "id": "5"},
            1,
        ]
    )
    assert without_message(exchange(body, 7, None, ["hello", 5])) == [
        {"jsonrpc": "2.0", "result": 7, "id": "1"},
        error(jsonrpc.INVALID_REQUEST),
        {"jsonrpc": "2.0", "result": ["hello", 5], "id": "5"},
        error(jsonrpc.INVALID_REQUEST),
    ]


def test_a_batch_of_notifications_is_not_answered() -> None:
    assert exchange('[{"jsonrpc": "2.0", "method": "f"}, {"jsonrpc": "2.0", "method": "g"}]', 1, 2) is None


@given(JSON.map(json.dumps).map(str.encode) | st.binary())
def test_any_body_gives_calls_and_rejections(body: bytes) -> None:
    incoming = jsonrpc.decode(body)
    assert incoming.items
    outcomes = [0 for item in incoming.items if isinstance(item, Call)]
    reply = jsonrpc.encode(incoming, list(outcomes))
    answered = [item for item in incoming.items if isinstance(item, Rejected) or not item.is_notification]
    assert (reply is None) == (not answered)
    if reply is not None:
        replies = json.loads(reply)
        assert len(replies if incoming.is_batch else [replies]) == len(answered)
