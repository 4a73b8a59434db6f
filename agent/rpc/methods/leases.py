"""`Carfs.AcquireShard` and `Carfs.ReleaseShard`: leases of a session (an open stream from `/events`)."""

from __future__ import annotations

from agent.dagstore.records import ShardRecord
from agent.rpc.peers import Permission
from agent.rpc.registry import Params, method
from agent.rpc.services import Services


class LeaseParams(Params, frozen=True):
    session: str
    key: str


@method("Carfs.AcquireShard", Permission.READ)
async def acquire_shard(services: Services, params: LeaseParams) -> ShardRecord:
    return await services.leases.acquire(params.session, params.key)


@method("Carfs.ReleaseShard", Permission.READ)
async def release_shard(services: Services, params: LeaseParams) -> bool:
    return services.leases.release(params.session, params.key)
