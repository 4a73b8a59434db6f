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
    """Takes a lease on a shard for a session; answers once there is an index."""
    return await services.leases.acquire(params.session, params.key)


@method("Carfs.ReleaseShard", Permission.READ)
async def release_shard(services: Services, params: LeaseParams) -> bool:
    """Gives the lease back; false if there was none (any more)."""
    return services.leases.release(params.session, params.key)
