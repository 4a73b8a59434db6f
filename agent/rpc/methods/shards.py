"""`Carfs.…Shard`: what Lotus has no method for, and records with all that is known."""

from __future__ import annotations

import msgspec
import trio

from agent.dagstore.failures import ShardError
from agent.dagstore.records import ShardRecord
from agent.rpc.peers import Permission
from agent.rpc.registry import KeyParams, NoParams, Params, method
from agent.rpc.services import Services


class RegisterParams(Params, frozen=True):
    """`Wait`: answer when the shard is Available, or with what made it Errored."""

    key: str
    url: str = msgspec.field(name="URL")
    lazy: bool = False
    wait: bool = False


@method("Carfs.RegisterShard", Permission.ADMIN)
async def register_shard(services: Services, params: RegisterParams) -> ShardRecord:
    await services.dagstore.register(params.key, params.url, lazy=params.lazy, wait=params.wait)
    return services.dagstore.record(params.key)


@method("Carfs.DestroyShard", Permission.ADMIN)
async def destroy_shard(services: Services, params: KeyParams) -> None:
    await services.dagstore.destroy(params.key)


@method("Carfs.ListShards", Permission.READ)
async def list_shards(services: Services, params: NoParams) -> list[ShardRecord]:
    records = []
    for key in services.dagstore.list_keys():
        try:
            records.append(services.dagstore.record(key))
        except ShardError:  # destroyed since we began
            continue
        if len(records) % 256 == 0:
            await trio.lowlevel.checkpoint()
    return records


@method("Carfs.ShardInfo", Permission.READ)
async def shard_info(services: Services, params: KeyParams) -> ShardRecord:
    return services.dagstore.record(params.key)
