"""go-jsonrpc's protocol as values: what a frame makes us do, and which frames say what came of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rpc.channels import Begin, Conversation, Say, Stop
from agent.rpc.jsonrpc import Call, ErrorObject


def frame(**more: object) -> str:
    return json.dumps({"jsonrpc": "2.0", "method": "F.m", "params": [], **more})


def said(data: bytes | None) -> Any:  # Any: JSON
    assert data is not None
    return json.loads(data)


def test_a_call_is_begun_and_answered_under_its_id() -> None:
    conversation = Conversation()
    assert conversation.receive(frame(id=7)) == [Begin(1, Call("F.m", [], 7))]
    assert said(conversation.answered(1, [1])) == {"jsonrpc": "2.0", "result": [1], "id": 7}


def test_many_calls_are_under_way_and_are_answered_in_any_order() -> None:
    conversation = Conversation()
    for number in (1, 2, 3):
        conversation.receive(frame(id=number))
    assert [said(conversation.answered(number, None))["id"] for number in (3, 1, 2)] == [3, 1, 2]


def test_a_stream_has_a_channel_whose_values_and_end_are_notifications() -> None:
    conversation = Conversation()
    conversation.receive(frame(id="a"))
    conversation.receive(frame(id="b"))
    assert said(conversation.opened(2)) == {"jsonrpc": "2.0", "result": 1, "id": "b"}
    assert said(conversation.opened(1))["result"] == 2
    value = said(conversation.value(2, {"x": 1}))
    assert value == {"jsonrpc": "2.0", "method": "xrpc.ch.val", "params": [1, {"x": 1}]}
    assert said(conversation.closed(2)) == {"jsonrpc": "2.0", "method": "xrpc.ch.close", "params": [1]}


def test_a_stream_that_breaks_off_says_why() -> None:
    conversation = Conversation()
    conversation.receive(frame(id=1))
    conversation.opened(1)
    assert said(conversation.closed(1, ErrorObject(1, "gone")))["params"] == [
        1,
        {"code": 1, "message": "gone"},
    ]


@pytest.mark.parametrize("identity", [5, "5", 5.5])
def test_a_cancel_stops_the_call_of_its_id(identity: object) -> None:
    conversation = Conversation()
    conversation.receive(frame(id=identity))
    assert conversation.receive(frame(method="xrpc.cancel", params=[identity])) == [Stop(1)]


def test_a_stream_can_be_cancelled_until_it_has_ended() -> None:
    conversation = Conversation()
    conversation.receive(frame(id=1))
    conversation.opened(1)
    assert conversation.receive(frame(method="xrpc.cancel", params=[1])) == [Stop(1)]
    conversation.closed(1)
    assert conversation.receive(frame(method="xrpc.cancel", params=[1])) == []


@pytest.mark.parametrize("params", [[], [9], [None], [True], [[1]], {"id": 1}, None])
def test_a_cancel_of_nothing_is_nothing(params: object) -> None:
    conversation = Conversation()
    conversation.receive(frame(id=1))
    assert conversation.receive(frame(method="xrpc.cancel", params=params)) == []


def test_an_id_is_free_again_when_its_call_has_ended() -> None:
    conversation = Conversation()
    conversation.receive(frame(id=1))
    (refused,) = conversation.receive(frame(id=1))
    assert isinstance(refused, Say)
    assert "is that of a call that has not ended" in said(refused.frame)["error"]["message"]
    conversation.answered(1, None)
    assert conversation.receive(frame(id=1)) == [Begin(2, Call("F.m", [], 1))]


def test_a_notification_is_made_and_not_answered() -> None:
    conversation = Conversation()
    (begun,) = conversation.receive(json.dumps({"jsonrpc": "2.0", "method": "F.m"}))
    assert begun == Begin(1, Call("F.m", None, None, is_notification=True))
    assert conversation.answered(1, 5) is None


def test_a_batch_is_answered_as_one_when_its_last_call_is() -> None:
    conversation = Conversation()
    batch = [json.loads(frame(id=1)), 5, json.loads(frame(id=2))]
    assert [
        action.number for action in conversation.receive(json.dumps(batch)) if isinstance(action, Begin)
    ] == [
        1,
        2,
    ]
    assert conversation.answered(2, "two") is None
    first, wrong, second = said(conversation.answered(1, "one"))
    assert (first["result"], wrong["error"]["code"], second["result"]) == ("one", -32600, "two")


@pytest.mark.parametrize("text", ["", "{", "5", '{"jsonrpc": "1.0"}', "[]", "[" * 5000])
def test_what_is_no_request_is_told_so(text: str) -> None:
    (action,) = Conversation().receive(text)
    assert isinstance(action, Say)
    assert said(action.frame)["error"]["code"] in (-32700, -32600)


def test_calls_under_way_are_bounded_by_number_and_size_and_cancels_still_work() -> None:
    conversation = Conversation(max_calls=2, max_bytes=1000)
    conversation.receive(frame(id=1))
    (big,) = conversation.receive(frame(id=2, params=["x" * 1000]))
    assert isinstance(big, Say)
    conversation.receive(frame(id=2))
    (many,) = conversation.receive(frame(id=3))
    assert isinstance(many, Say)
    assert said(many.frame)["error"]["data"] == {"class": "busy"}
    assert conversation.receive(frame(method="xrpc.cancel", params=[1])) == [Stop(1)]


def test_a_batch_of_more_than_there_is_room_for_is_refused_as_a_whole() -> None:
    conversation = Conversation(max_calls=1)
    (action,) = conversation.receive(json.dumps([json.loads(frame(id=number)) for number in (1, 2)]))
    assert isinstance(action, Say)
    assert [one["error"]["data"]["class"] for one in said(action.frame)] == ["busy", "busy"]


_ids = st.one_of(st.integers(0, 3), st.sampled_from(["a", "b", None]))
_requests = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": st.sampled_from(["F.m", "xrpc.cancel", "xrpc.ch.val"])},
    optional={"id": _ids, "params": st.lists(_ids, max_size=2)},
)
_frames = st.one_of(_requests, st.lists(st.one_of(_requests, st.integers()), max_size=3)).map(json.dumps)


_whether_to_end = st.lists(st.booleans(), min_size=30, max_size=30)


@given(st.lists(st.one_of(_frames, st.text(max_size=20)), max_size=30), _whether_to_end)
def test_whatever_comes_each_call_that_was_begun_can_be_ended_once(
    frames: list[str], whether: list[bool]
) -> None:
    conversation = Conversation(max_calls=4)
    running: list[int] = []
    for text, ends in zip(frames, whether, strict=False):
        for action in conversation.receive(text):
            if isinstance(action, Begin):
                running.append(action.number)
            elif isinstance(action, Stop):
                assert action.number in running
        assert len(running) <= 4
        if running and ends:
            conversation.answered(running.pop(len(text) % len(running)), None)
    for number in running:
        conversation.answered(number, None)
    assert conversation.receive(frame(id=1)) != []
