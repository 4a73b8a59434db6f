"""`Carfs.AcquireShard` and its like: what a session (an open stream from `/events`) holds, and the bytes it needs."""

from __future__ import annotations

from typing import Annotated

import msgspec

from agent.dagstore.records import ShardRecord
from agent.rpc.peers import Permission
from agent.rpc.registry import Params, method
from agent.rpc.services import Services

Bytes = Annotated[int, msgspec.Meta(ge=0)]


class LeaseParams(Params, frozen=True):
    session: str
    key: str


class RangeParams(Params, frozen=True):
    """`Again`: what is there of these bytes does not match, so they are fetched once more."""

    session: str
    key: str
    offset: Bytes
    length: Bytes
    again: bool = False


class Range(Params, frozen=True):
    """Bytes of a shard's data."""

    offset: Bytes
    length: Bytes


class RangesParams(Params, frozen=True):
    session: str
    key: str
    ranges: tuple[Range, ...]


class CompleteParams(Params, frozen=True):
    key: str
    wait: bool = False


@method("Carfs.AcquireShard", Permission.READ)
async def acquire_shard(services: Services, params: LeaseParams) -> ShardRecord:
    """Takes a lease on a shard for a session; answers once there is an index."""
    return services.seen(await services.leases.acquire(params.session, params.key))


@method("Carfs.ReleaseShard", Permission.READ)
async def release_shard(services: Services, params: LeaseParams) -> bool:
    """Gives the lease back; false if there was none (any more)."""
    return services.leases.release(params.session, params.key)


@method("Carfs.FetchRange", Permission.READ)
async def fetch_range(services: Services, params: RangeParams) -> None:
    """Answers when the bytes are in the transient of a shard that the session holds."""
    await services.leases.fetch_range(
        params.session, params.key, params.offset, params.length, again=params.again
    )


@method("Carfs.WantRanges", Permission.READ)
async def want_ranges(services: Services, params: RangesParams) -> None:
    """Answers at once: these bytes will be asked for soon."""
    ranges = [(one.offset, one.length) for one in params.ranges]
    await services.leases.want_ranges(params.session, params.key, ranges)


@method("Carfs.CompleteShard", Permission.WRITE)
async def complete_shard(services: Services, params: CompleteParams) -> None:
    """Has all data of a remote shard fetched; with `Wait`, answers when it is here."""
    await services.dagstore.complete(params.key, wait=params.wait)
