"""The methods: each a function with a permission level and typed parameters, registered by the line above it.

Parameters come by name, by position, or (as go-jsonrpc sends a parameter struct) as one object in position 0; names
are those of the Struct. Results are anything msgspec encodes.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
import typing
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import trio

from agent.dagstore import indexers
from agent.dagstore.dagstore import Dagstore
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.inverted import Statistics
from agent.dagstore.leases import Leases
from agent.dagstore.lifecycle import ShardState
from agent.dagstore.records import ShardRecord
from agent.dagstore.registering import Registration
from agent.rpc import jsonrpc
from agent.rpc.jsonrpc import Call, ErrorObject, Json
from agent.rpc.peers import Permission
from agent.workers import WorkerPool
from carlib.cid import Cid
from carlib.errors import CarError

logger = logging.getLogger(__name__)

MINER_API_VERSION = 1 << 16 | 5 << 8  # of Lotus' storage miner API, whose method names these are

LISTED_TOGETHER = 128  # shards, which keeps the loop from other work for some 5 ms
_encode = msgspec.json.Encoder().encode

_CODES = {
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


@dataclass(frozen=True, slots=True)
class Services:
    """What methods work with."""

    dagstore: Dagstore
    leases: Leases
    pool: WorkerPool
    directory: Path  # $CARFS_PATH
    version: str
    stop: trio.Event
    started: float  # time.monotonic()


Handler = Callable[[Services, Any], Awaitable[Json]]  # Any: the method's own parameter Struct
_Handler = TypeVar("_Handler", bound=Handler)


@dataclass(frozen=True, slots=True)
class Method:
    """One entry of the registry."""

    permission: Permission
    params: type[msgspec.Struct]
    handler: Handler


METHODS: dict[str, Method] = {}


def method(name: str, permission: Permission) -> Callable[[_Handler], _Handler]:
    """Registers the function below under `name`; the type of its second parameter says what it takes."""

    def register(handler: _Handler) -> _Handler:
        params = typing.get_type_hints(handler)["params"]
        METHODS[name] = Method(permission, params, handler)
        return handler

    return register


async def answer(services: Services, permission: Permission, call: Call) -> Json | ErrorObject:
    """What a call gives; errors of every kind become an ErrorObject here and nowhere else."""
    found = METHODS.get(call.method)
    if found is None:
        message = f"method '{call.method}' not found"  # go-jsonrpc's words
        return ErrorObject(jsonrpc.METHOD_NOT_FOUND, message, {"class": ErrorClass.NOT_FOUND})
    if permission < found.permission:
        needed = found.permission.name.lower()
        message = f"missing permission to invoke '{call.method}' (need '{needed}')"
        return ErrorObject(_CODES[ErrorClass.DENIED], message, {"class": ErrorClass.DENIED})
    try:
        params = _converted(call.params, found.params)
    except (msgspec.ValidationError, ValueError) as error:
        message = f"{call.method}: {error}"
        return ErrorObject(jsonrpc.INVALID_PARAMS, message, {"class": ErrorClass.INVALID})
    try:
        return await found.handler(services, params)
    except ShardError as error:
        data = {"class": error.error_class} | ({"key": error.key} if error.key is not None else {})
        return ErrorObject(_CODES[error.error_class], str(error), data)
    except Exception as error:
        logger.exception("%s failed", call.method)
        message = f"internal error in {call.method}: {type(error).__name__}: {error}"
        return ErrorObject(jsonrpc.INTERNAL_ERROR, message, {"class": ErrorClass.BUG})


def _converted(params: Json, wanted: type[msgspec.Struct]) -> msgspec.Struct:
    fields = msgspec.structs.fields(wanted)
    if isinstance(params, list):
        if len(params) == 1 and isinstance(params[0], dict) and not _takes_object(fields):
            params = params[0]
        elif len(params) > len(fields):
            raise ValueError(f"takes at most {len(fields)} parameters, not {len(params)}")
        else:
            params = {field.encode_name: value for field, value in zip(fields, params, strict=False)}
    return msgspec.convert({} if params is None else params, wanted)


def _takes_object(fields: tuple[msgspec.structs.FieldInfo, ...]) -> bool:
    """Whether an object in position 0 is the first parameter and not all of them."""
    return bool(fields) and isinstance(fields[0].type, type) and issubclass(fields[0].type, msgspec.Struct)


class _Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """What all parameter Structs share: names in Go's spelling, nothing unknown."""


class NoParams(_Params, frozen=True):
    """For methods without parameters."""


class KeyParams(_Params, frozen=True):
    """For methods about one shard."""

    key: str


class CidParams(_Params, frozen=True):
    """For methods about one block."""

    cid: str


class RegisterOptions(_Params, frozen=True):
    """The second parameter that `Filecoin.DagstoreRegisterShard` takes here and not in Lotus."""

    url: str = msgspec.field(name="URL")
    lazy: bool = False


class LotusRegisterParams(_Params, frozen=True):
    key: str
    options: RegisterOptions | None = None


class RegisterParams(_Params, frozen=True):
    """`Wait`: answer when the shard is Available, or with what made it Errored."""

    key: str
    url: str = msgspec.field(name="URL")
    lazy: bool = False
    wait: bool = False
    indexer: str = indexers.DEFAULT


class RegisterOne(_Params, frozen=True):
    """One of many; as for `Carfs.RegisterShard`, but that nobody waits for its index."""

    key: str
    url: str = msgspec.field(name="URL")
    lazy: bool = False
    replicas: tuple[str, ...] = ()
    existing_transient: str = ""


class RegisterManyParams(_Params, frozen=True):
    shards: list[RegisterOne]


class LeaseParams(_Params, frozen=True):
    session: str
    key: str


class RangeParams(_Params, frozen=True):
    """`Again`: what is there of these bytes does not match, so they are fetched once more."""

    session: str
    key: str
    offset: int
    length: int
    again: bool = False


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """Bytes of a shard's data."""

    offset: int
    length: int


class RangesParams(_Params, frozen=True):
    session: str
    key: str
    ranges: tuple[Range, ...]


class CompleteParams(_Params, frozen=True):
    """`Wait`: answer when all of it is here, or with what kept it."""

    key: str
    wait: bool = False


class LotusShard(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' DagstoreShardInfo."""

    key: str
    state: str
    error: str


@method("Filecoin.Version", Permission.READ)
async def version(services: Services, params: NoParams) -> Json:
    return {"Version": f"carfs-{services.version}", "APIVersion": MINER_API_VERSION, "BlockDelay": 0}


@method("Filecoin.DagstoreListShards", Permission.READ)
async def list_shards_as_lotus(services: Services, params: NoParams) -> msgspec.Raw:
    return await _in_pieces(
        LotusShard(key, life.state.value, life.failure.message if life.failure is not None else "")
        for key, life in services.dagstore.lives()
    )


@method("Filecoin.DagstoreRegisterShard", Permission.ADMIN)
async def register_shard_as_lotus(services: Services, params: LotusRegisterParams) -> None:
    if params.options is None:
        message = f"there is no piece store to find {params.key!r} in; give {{URL}} as the second parameter"
        raise ShardError(ErrorClass.INVALID, message, key=params.key)
    await services.dagstore.register(params.key, params.options.url, lazy=params.options.lazy)


@method("Filecoin.DagstoreInitializeShard", Permission.WRITE)
async def initialise_shard(services: Services, params: KeyParams) -> None:
    await services.dagstore.initialise(params.key)


@method("Filecoin.DagstoreRecoverShard", Permission.WRITE)
async def recover_shard(services: Services, params: KeyParams) -> None:
    await services.dagstore.recover(params.key)


@method("Carfs.RegisterShard", Permission.ADMIN)
async def register_shard(services: Services, params: RegisterParams) -> ShardRecord:
    await services.dagstore.register(
        params.key, params.url, lazy=params.lazy, wait=params.wait, indexer=params.indexer
    )
    return services.dagstore.record(params.key)


@method("Carfs.RegisterShards", Permission.ADMIN)
async def register_shards(services: Services, params: RegisterManyParams) -> Json:
    """Each is taken in or not by itself; answered when all that could be are on disk."""
    wanted = [
        Registration(one.key, one.url, one.lazy, one.replicas, one.existing_transient)
        for one in params.shards
    ]
    failures = await services.dagstore.register_all(wanted)
    refused = [
        {"Key": one.key, "Class": failure.error_class, "Error": failure.message}
        for one, failure in zip(wanted, failures, strict=True)
        if failure is not None
    ]
    return {"Registered": len(wanted) - len(refused), "Refused": refused}


@method("Carfs.DestroyShard", Permission.ADMIN)
async def destroy_shard(services: Services, params: KeyParams) -> None:
    await services.dagstore.destroy(params.key)


@method("Carfs.ListShards", Permission.READ)
async def list_shards(services: Services, params: NoParams) -> msgspec.Raw:
    return await _in_pieces(_records(services))


def _records(services: Services) -> Iterator[ShardRecord]:
    for key in services.dagstore.list_keys():
        with suppress(ShardError):  # destroyed since we began
            yield services.dagstore.record(key)


async def _in_pieces(values: Iterator[object]) -> msgspec.Raw:
    """A JSON array, made in pieces that keep nobody waiting: there may be a hundred thousand values."""
    pieces: list[bytes] = []
    for piece in iter(lambda: list(itertools.islice(values, LISTED_TOGETHER)), []):
        pieces.append(_encode(piece)[1:-1])
        await trio.lowlevel.checkpoint()
    return msgspec.Raw(b"[" + b",".join(pieces) + b"]")


@method("Carfs.ShardInfo", Permission.READ)
async def shard_info(services: Services, params: KeyParams) -> ShardRecord:
    return services.dagstore.record(params.key)


@method("Carfs.LookupCid", Permission.READ)
async def lookup_cid(services: Services, params: CidParams) -> list[LotusShard]:
    """The shards that hold the block of a CID, in any base and version."""
    try:
        cid = Cid.parse(params.cid)
    except CarError as error:
        raise ShardError(ErrorClass.INVALID, str(error)) from None
    lives = services.dagstore.lives_of(await services.dagstore.lookup(cid))
    return [
        LotusShard(key, life.state.value, life.failure.message if life.failure is not None else "")
        for key, life in lives
    ]


@method("Carfs.CheckInvertedIndex", Permission.ADMIN)
async def check_inverted_index(services: Services, params: NoParams) -> list[Json]:
    """What the inverted index has other than the shards' own indices: keys (null: a whole segment) and messages."""
    problems = await services.dagstore.inverted.check()
    return [{"Key": key, "Problem": problem} for key, problem in problems]


@method("Carfs.RebuildInvertedIndex", Permission.ADMIN)
async def rebuild_inverted_index(services: Services, params: NoParams) -> Statistics:
    """Makes the inverted index anew from the shards' own; answers when all are in."""
    await services.dagstore.inverted.rebuild()
    return services.dagstore.inverted.statistics()


@method("Carfs.AcquireShard", Permission.READ)
async def acquire_shard(services: Services, params: LeaseParams) -> ShardRecord:
    return await services.leases.acquire(params.session, params.key)


@method("Carfs.ReleaseShard", Permission.READ)
async def release_shard(services: Services, params: LeaseParams) -> bool:
    return services.leases.release(params.session, params.key)


@method("Carfs.FetchRange", Permission.READ)
async def fetch_range(services: Services, params: RangeParams) -> None:
    """Answered when the bytes are in the transient of a shard that the session holds."""
    await services.leases.fetch_range(
        params.session, params.key, params.offset, params.length, again=params.again
    )


@method("Carfs.WantRanges", Permission.READ)
async def want_ranges(services: Services, params: RangesParams) -> None:
    """Answered at once: these bytes will be asked for soon."""
    ranges = [(one.offset, one.length) for one in params.ranges]
    await services.leases.want_ranges(params.session, params.key, ranges)


@method("Carfs.CompleteShard", Permission.WRITE)
async def complete_shard(services: Services, params: CompleteParams) -> None:
    """Has all data of a remote shard fetched."""
    await services.dagstore.complete(params.key, wait=params.wait)


@method("Carfs.Status", Permission.READ)
async def status(services: Services, params: NoParams) -> Json:
    """What the agent does now; sizes in bytes, times in seconds."""
    pool = services.pool.statistics()
    counts = services.dagstore.counts()
    return {
        "Version": services.version,
        "Pid": os.getpid(),
        "Path": str(services.directory),
        "UptimeSeconds": round(time.monotonic() - services.started, 3),
        "MemoryBytes": _resident_bytes(),
        "Shards": {state.value: counts[state.value] for state in ShardState if state.value in counts},
        "Indexing": services.dagstore.indexing(),
        "InvertedIndex": services.dagstore.inverted.statistics(),
        "Workers": {"Busy": pool.busy, "Idle": pool.idle, "Waiting": pool.waiting, "Limit": pool.limit},
        "Clients": [{"Client": client, "Leases": leases} for client, leases in services.leases.held()],
    }


@method("Carfs.Shutdown", Permission.ADMIN)
async def shutdown(services: Services, params: NoParams) -> None:
    logger.info("asked to stop over RPC")
    services.stop.set()


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE")
