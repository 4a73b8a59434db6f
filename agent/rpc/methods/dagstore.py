"""`Filecoin.Dagstore…`: names, parameters, results and words as Lotus' storage miner has them."""

from __future__ import annotations

from typing import Annotated

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.lifecycle import ShardState
from agent.rpc.backend import not_set_up
from agent.rpc.bulk import in_bulk
from agent.rpc.peers import Permission
from agent.rpc.registry import KeyParams, NoParams, Params, Values, method, stream
from agent.rpc.services import Services


class RegisterOptions(Params, frozen=True):
    """The second parameter that `Filecoin.DagstoreRegisterShard` takes here and not in Lotus."""

    url: str = msgspec.field(name="URL")
    lazy: bool = False


class LotusRegisterParams(Params, frozen=True):
    key: str
    options: RegisterOptions | None = None


class InitialiseAllParams(Params, frozen=True):
    """`MaxConcurrency`: how many at once; 0: all."""

    max_concurrency: Annotated[int, msgspec.Meta(ge=0)] = 0
    include_sealed: bool = False


class LotusShard(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' DagstoreShardInfo."""

    key: str
    state: str
    error: str


class LotusGcResult(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' DagstoreShardResult; `BytesFreed` is ours."""

    key: str
    success: bool
    error: str
    bytes_freed: int


@method("Filecoin.DagstoreListShards", Permission.READ)
async def list_shards(services: Services, params: NoParams) -> list[LotusShard]:
    return [
        LotusShard(key, life.state.value, life.failure.message if life.failure is not None else "")
        for key, life in services.dagstore.lives()
    ]


@method("Filecoin.DagstoreRegisterShard", Permission.ADMIN)
async def register_shard(services: Services, params: LotusRegisterParams) -> None:
    if params.options is None:
        message = f"there is no piece store to find {params.key!r} in; give {{URL}} as the second parameter"
        raise ShardError(ErrorClass.INVALID, message, key=params.key)
    await services.dagstore.register(params.key, params.options.url, lazy=params.options.lazy)


@method("Filecoin.DagstoreInitializeShard", Permission.WRITE)
async def initialise_shard(services: Services, params: KeyParams) -> None:
    await services.dagstore.initialise(params.key)


@stream("Filecoin.DagstoreInitializeAll", Permission.WRITE)
async def initialise_all(services: Services, params: InitialiseAllParams) -> Values:
    """Indexes all shards that are New; those whose data is sealed only if asked to."""
    new = [key for key, life in services.dagstore.lives() if life.state is ShardState.NEW]
    return in_bulk(new, services.dagstore.initialise, limit=params.max_concurrency)


@method("Filecoin.DagstoreRecoverShard", Permission.WRITE)
async def recover_shard(services: Services, params: KeyParams) -> None:
    await services.dagstore.recover(params.key)


@method("Filecoin.DagstoreGC", Permission.ADMIN)
async def gc(services: Services, params: NoParams) -> list[LotusGcResult]:
    """Frees transients that nobody uses; a shard that had none is not listed (D-10)."""
    if services.collector is None:
        raise not_set_up("garbage collection")
    return [
        LotusGcResult(one.key, not one.error, one.error, one.bytes_freed)
        for one in await services.collector.gc()
    ]
