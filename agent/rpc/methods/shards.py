"""`Carfs.…Shard`: what Lotus has no method for, and records with all that is known (R-3)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from typing import Annotated

import msgspec
import trio

from agent.dagstore import indexers
from agent.dagstore.failures import ShardError
from agent.dagstore.records import ShardRecord, Transition
from agent.rpc.counting import counted
from agent.rpc.filters import Counts, Filter, Page
from agent.rpc.methods.dagstore import FindParams, LotusShard, found_shards
from agent.rpc.peers import Permission
from agent.rpc.pieces import TOGETHER, in_pieces
from agent.rpc.registry import KeyParams, Params, Values, method, stream
from agent.rpc.services import Services


class RegisterParams(Params, frozen=True):
    """`Wait`: answer when the shard is Available, or with what made it Errored. `Replicas`: further URLs of the same
    data. `ExistingTransient`: the path of your own copy of it, which is used in its place. `Indexer`: what makes the
    index, by name."""

    key: str
    url: str = msgspec.field(name="URL")
    lazy: bool = False
    wait: bool = False
    replicas: tuple[str, ...] = ()
    existing_transient: str = ""
    indexer: str = indexers.DEFAULT


class HistoryParams(Params, frozen=True):
    """`Before`: the smallest `Number` of the page before, 0 for the first."""

    key: str
    before: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


class HistoryLine(msgspec.Struct, frozen=True, rename="pascal"):
    """One transition: when, from where to where, what made it, why, who."""

    number: int
    at: str
    before: str
    after: str
    event: str
    reason: str
    by: str

    @classmethod
    def of(cls, number: int, line: Transition) -> HistoryLine:
        return cls(number, line.at, line.before, line.after, line.event, line.reason, line.by)


@method("Carfs.RegisterShard", Permission.ADMIN)
async def register_shard(services: Services, params: RegisterParams) -> ShardRecord:
    """Takes a shard in."""
    await services.dagstore.register(
        params.key,
        params.url,
        lazy=params.lazy,
        wait=params.wait,
        replicas=params.replicas,
        existing_transient=params.existing_transient,
        indexer=params.indexer,
    )
    return services.record(params.key)


@method("Carfs.DestroyShard", Permission.ADMIN)
async def destroy_shard(services: Services, params: KeyParams) -> None:
    """Forgets a shard and removes what was made of it; its data stays. Refused while the shard is used."""
    await services.dagstore.destroy(params.key)


@method("Carfs.ListShards", Permission.READ, gives=list[ShardRecord])
async def list_shards(services: Services, params: Page) -> msgspec.Raw:
    """The records of a page of shards, by key."""
    return await in_pieces(_records(services, params))


@stream("Carfs.WalkShards", Permission.READ, gives=ShardRecord)
async def walk_shards(services: Services, params: Page) -> Values:
    """The same, record by record; if it breaks off, go on `After` the last key."""
    records = _records(services, params)

    async def walk() -> AsyncGenerator[ShardRecord, None]:
        for number, record in enumerate(records, 1):
            yield record
            if number % TOGETHER == 0:
                await trio.lowlevel.checkpoint()

    return aclosing(walk())


@method("Carfs.CountShards", Permission.READ)
async def count_shards(services: Services, params: Filter) -> Counts:
    """How many shards fit a filter, by state and class of error."""
    return await counted(services, params)


@method("Carfs.ShardInfo", Permission.READ)
async def shard_info(services: Services, params: KeyParams) -> ShardRecord:
    """The record of a shard."""
    return services.record(params.key)


@method("Carfs.ShardHistory", Permission.READ)
async def shard_history(services: Services, params: HistoryParams) -> list[HistoryLine]:
    """What happened to a shard, the newest first."""
    page = services.dagstore.history(params.key, before=params.before or None, limit=params.limit)
    return [HistoryLine.of(number, line) for number, line in page]


@method("Carfs.LookupCid", Permission.READ)
async def lookup_cid(services: Services, params: FindParams) -> list[LotusShard]:
    """The shards that have the block of a CID; what `Filecoin.DagstoreLookupPieces` gives, for those who may read."""
    return await found_shards(services, params, params.but)


def _records(services: Services, params: Page) -> Iterator[ShardRecord]:
    for key, _ in params.page(services.dagstore.list_keys(), services.dagstore.find_life):
        with suppress(ShardError):  # destroyed since we began
            yield services.record(key)
