"""`Filecoin.Dagstore…`: names, parameters, results and words as Lotus' storage miner has them."""

from __future__ import annotations

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.rpc.peers import Permission
from agent.rpc.registry import KeyParams, NoParams, Params, method
from agent.rpc.services import Services


class RegisterOptions(Params, frozen=True):
    """The second parameter that `Filecoin.DagstoreRegisterShard` takes here and not in Lotus."""

    url: str = msgspec.field(name="URL")
    lazy: bool = False


class LotusRegisterParams(Params, frozen=True):
    key: str
    options: RegisterOptions | None = None


class LotusShard(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' DagstoreShardInfo."""

    key: str
    state: str
    error: str


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


@method("Filecoin.DagstoreRecoverShard", Permission.WRITE)
async def recover_shard(services: Services, params: KeyParams) -> None:
    await services.dagstore.recover(params.key)
