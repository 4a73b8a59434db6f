"""The registry of methods: what is called by which name, who may, with which parameters, and how errors go out.

Parameters come by name, by position, or (as go-jsonrpc sends a parameter struct) as one object in position 0; names
are those of the Struct. Results are anything msgspec encodes.
"""

from __future__ import annotations

import logging
import time
import typing
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from agent.dagstore.actors import acting
from agent.dagstore.failures import ErrorClass, ShardError
from agent.rpc import jsonrpc
from agent.rpc.jsonrpc import Call, ErrorObject, Json
from agent.rpc.peers import Caller, Permission
from agent.rpc.services import Services

logger = logging.getLogger(__name__)

CODES = {
    ErrorClass.NOT_FOUND: -32001,
    ErrorClass.EXISTS: -32002,
    ErrorClass.BUSY: -32003,
    ErrorClass.CORRUPT: -32004,
    ErrorClass.GONE: -32005,
    ErrorClass.NO_SPACE: -32006,
    ErrorClass.DENIED: -32007,
    ErrorClass.CANCELLED: -32008,
    ErrorClass.INVALID: jsonrpc.INVALID_PARAMS,
    ErrorClass.BUG: jsonrpc.INTERNAL_ERROR,
}

_encode = msgspec.json.Encoder().encode

LOTUS = "Filecoin."  # what the names of Lotus' methods begin with
LOTUS_CODE = 1

Handler = Callable[[Services, Any], Awaitable[Json]]  # Any: the method's own parameter Struct
_Handler = TypeVar("_Handler", bound=Handler)


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """What all parameter Structs share: names in Go's spelling, nothing unknown."""

    def needs(self) -> Permission:
        """The level that these values need, where it is above that of their method."""
        return Permission.READ


class NoParams(Params, frozen=True):
    """For methods without parameters."""


class KeyParams(Params, frozen=True):
    """For methods about one shard."""

    key: str


Values = AbstractAsyncContextManager[AsyncIterator[Json]]
"""What the handler of a stream returns: nothing runs before the block is entered, and nothing after it is left."""


@dataclass(frozen=True, slots=True)
class Method:
    """One entry of the registry."""

    permission: Permission
    params: type[Params]
    handler: Handler
    is_stream: bool = False
    result: Any = None  # the type of what it gives, of a stream of each value; None: nothing, Any: whatever


@dataclass(frozen=True, slots=True)
class Stream:
    """The outcome of a call whose values come one by one; errors of `values` go through `error_of`."""

    method: str
    values: Values


METHODS: dict[str, Method] = {}


def method(name: str, permission: Permission, *, gives: Any = None) -> Callable[[_Handler], _Handler]:
    """Registers the function below under `name`; the type of its second parameter says what it takes, and that of its
    result what it gives, unless `gives` does."""
    return _registered(name, permission, gives, is_stream=False)


def stream(name: str, permission: Permission, *, gives: Any) -> Callable[[_Handler], _Handler]:
    """Likewise for a method that returns `Values` of the type `gives`: a channel over a WebSocket, lines over HTTP."""
    return _registered(name, permission, gives, is_stream=True)


def _registered(
    name: str, permission: Permission, gives: Any, *, is_stream: bool
) -> Callable[[_Handler], _Handler]:
    def register(handler: _Handler) -> _Handler:
        hints = typing.get_type_hints(handler)
        result = hints["return"] if gives is None else gives
        METHODS[name] = Method(permission, hints["params"], handler, is_stream, result)
        return handler

    return register


async def answer(services: Services, caller: Caller, call: Call) -> Json | Stream | ErrorObject:
    """What a call gives; errors of every kind become an ErrorObject here and in `error_of` and nowhere else."""
    found = METHODS.get(call.method)
    if found is None:  # and not counted: names that others make up would fill the memory
        message = f"method '{call.method}' not found"  # go-jsonrpc's words
        return ErrorObject(jsonrpc.METHOD_NOT_FOUND, message, {"class": ErrorClass.NOT_FOUND})
    began = time.monotonic()
    code = ErrorClass.CANCELLED.value
    try:
        outcome = await _outcome(services, caller, call, found)
        code = outcome.data["class"] if isinstance(outcome, ErrorObject) else "ok"
    finally:
        services.metrics.call_answered(call.method, code, time.monotonic() - began)
    return outcome


async def _outcome(
    services: Services, caller: Caller, call: Call, found: Method
) -> Json | Stream | ErrorObject:
    if caller.permission < found.permission:
        return _denied(call.method, found.permission)
    try:
        params = _converted(call.params, found.params)
    except (msgspec.ValidationError, ValueError) as error:
        message = f"{call.method}: {error}"
        return ErrorObject(jsonrpc.INVALID_PARAMS, message, {"class": ErrorClass.INVALID})
    if caller.permission < params.needs():
        return _denied(call.method, params.needs())
    try:
        with acting(f"rpc: {caller.name}"):
            outcome = await found.handler(services.for_caller(caller), params)
    except Exception as error:
        return error_of(call.method, error)
    return Stream(call.method, _acted(caller, outcome)) if found.is_stream else outcome


@asynccontextmanager
async def _acted(caller: Caller, values: Values) -> AsyncIterator[AsyncIterator[Json]]:
    """The values, and whatever is done for them in the name of the caller."""
    with acting(f"rpc: {caller.name}"):
        async with values as entered:
            yield entered


def encoded(name: str, outcome: Json | ErrorObject) -> msgspec.Raw | ErrorObject:
    """The outcome of a call of `name` as it goes out."""
    if isinstance(outcome, ErrorObject):
        return outcome
    try:
        return msgspec.Raw(_encode(outcome))
    except Exception as error:  # text that is no Unicode, for one
        return error_of(name, error)


def error_of(name: str, error: Exception) -> ErrorObject:
    """What goes out for an exception that the method `name` raised; one that is a bug of ours is logged."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, ShardError):
        data = {"class": error.error_class} | ({"key": error.key} if error.key is not None else {})
        return ErrorObject(_code(name, error.error_class), str(error), data)
    logger.error("%s failed", name, exc_info=error)
    message = f"internal error in {name}: {type(error).__name__}: {error}"
    return ErrorObject(jsonrpc.INTERNAL_ERROR, message, {"class": ErrorClass.BUG})


def cancelled(name: str) -> ErrorObject:
    """What goes out for a call of `name` that its client has called off, in Go's words."""
    return ErrorObject(_code(name, ErrorClass.CANCELLED), "context canceled", {"class": ErrorClass.CANCELLED})


def _denied(name: str, needed: Permission) -> ErrorObject:
    """In Lotus' words."""
    message = f"missing permission to invoke '{name.removeprefix(LOTUS)}' (need '{needed.name.lower()}')"
    return ErrorObject(_code(name, ErrorClass.DENIED), message, {"class": ErrorClass.DENIED})


def _code(name: str, error_class: ErrorClass) -> int:
    """Lotus has one code for all that its methods refuse; its clients put others in front of the message."""
    return LOTUS_CODE if name.startswith(LOTUS) else CODES[error_class]


def _converted(params: Json, wanted: type[Params]) -> Params:
    fields = msgspec.structs.fields(wanted)
    if isinstance(params, list):
        if len(params) == 1 and isinstance(params[0], dict) and _is_all(params[0], fields):
            params = params[0]
        elif len(params) > len(fields):
            raise ValueError(f"takes at most {len(fields)} parameters, not {len(params)}")
        else:
            params = {field.encode_name: value for field, value in zip(fields, params, strict=False)}
    return msgspec.convert({} if params is None else params, wanted)


def _is_all(first: dict[str, Json], fields: tuple[msgspec.structs.FieldInfo, ...]) -> bool:
    """Whether an object in position 0 is all parameters, and not the first of them (as a CID is in Lotus' form)."""
    kinds = typing.get_args(fields[0].type) or (fields[0].type,) if fields else ()
    takes_object = any(isinstance(kind, type) and issubclass(kind, msgspec.Struct) for kind in kinds)
    return not takes_object or first.keys() <= {field.encode_name for field in fields}
