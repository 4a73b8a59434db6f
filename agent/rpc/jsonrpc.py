"""JSON-RPC 2.0 as values: bytes of a request body in, calls out; outcomes in, bytes of a response body out.

Pure: no I/O, no await. The specification is at jsonrpc.org; what it leaves open follows go-jsonrpc, which Lotus'
clients speak (parameters by position, an object in position 0 for a parameter struct).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_BATCH = 1000

Json = Any  # any value that JSON can carry
Id = str | int | float | None


class ErrorObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """The `error` of a response."""

    code: int
    message: str
    data: Json = None


@dataclass(frozen=True, slots=True)
class Call:
    """One request; nobody waits for the outcome of a notification."""

    method: str
    params: Json
    id: Id = None
    is_notification: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something that is not a request; the error goes back under `id`, if that could be made out."""

    error: ErrorObject
    id: Id = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """The content of one body."""

    items: tuple[Call | Rejected, ...]
    is_batch: bool


class _Result(msgspec.Struct, frozen=True):
    jsonrpc: str
    result: Json
    id: Id


class _Error(msgspec.Struct, frozen=True):
    jsonrpc: str
    error: ErrorObject
    id: Id


def decode(body: bytes | str) -> Incoming:
    """What a body (or frame) asks for; whatever is wrong with it is in the answer, nothing is raised."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _alone(Rejected(_invalid(f"parse error: {error}", PARSE_ERROR)))
    if not isinstance(value, list):
        return _alone(_item(value))
    if not 1 <= len(value) <= MAX_BATCH:
        message = f"a batch has 1 to {MAX_BATCH} requests, not {len(value)}"
        return _alone(Rejected(_invalid(message)))
    return Incoming(tuple(map(_item, value)), is_batch=True)


def encode(incoming: Incoming, outcomes: list[Json | ErrorObject]) -> bytes | None:
    """The response body; `outcomes` has one entry for each call, in order. None if there is nothing to answer."""
    remaining = iter(outcomes)
    answers: list[_Result | _Error] = []
    for item in incoming.items:
        outcome = item.error if isinstance(item, Rejected) else next(remaining)
        if isinstance(item, Call) and item.is_notification:
            continue
        if isinstance(outcome, ErrorObject):
            answers.append(_Error("2.0", outcome, item.id))
        else:
            answers.append(_Result("2.0", outcome, item.id))
    if not answers:
        return None
    return msgspec.json.encode(answers if incoming.is_batch else answers[0])


def _alone(item: Call | Rejected) -> Incoming:
    return Incoming((item,), is_batch=False)


def _item(value: Json) -> Call | Rejected:
    if not isinstance(value, dict):
        return Rejected(_invalid("a request is an object"))
    identity = value.get("id")
    if isinstance(identity, bool) or not isinstance(identity, str | int | float | None):
        return Rejected(_invalid("an id is a string, a number or null"))
    method, params = value.get("method"), value.get("params")
    if value.get("jsonrpc") != "2.0" or not isinstance(method, str):
        return Rejected(_invalid('a request has "jsonrpc": "2.0" and a method'), identity)
    if not isinstance(params, list | dict | None):
        return Rejected(_invalid("params are an array or an object"), identity)
    return Call(method, params, identity, is_notification="id" not in value)


def _invalid(message: str, code: int = INVALID_REQUEST) -> ErrorObject:
    return ErrorObject(code, message, {"class": "invalid"})
