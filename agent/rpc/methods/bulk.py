"""`Carfs.…Shards`: what is done to many shards in one call, and what happens to all of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated

import msgspec

from agent.dagstore import indexers
from agent.dagstore.actors import actor
from agent.dagstore.bulk import Step, in_bulk
from agent.dagstore.lifecycle import ShardState
from agent.dagstore.registering import Registration
from agent.dagstore.scrub.records import Depth, ScrubEvent
from agent.dagstore.traces import Trace
from agent.rpc.backend import not_set_up
from agent.rpc.filters import Filter
from agent.rpc.peers import Permission
from agent.rpc.registry import Params, Values, method, stream
from agent.rpc.services import Services


class NewShard(Params, frozen=True):
    """One shard to take in."""

    key: str
    url: str = msgspec.field(name="URL")
    lazy: bool = False
    replicas: tuple[str, ...] = ()
    existing_transient: str = ""
    indexer: str = indexers.DEFAULT


class RegisterAllParams(Params, frozen=True):
    """As many shards as the body of a request has room for."""

    shards: tuple[NewShard, ...]


class Refused(msgspec.Struct, frozen=True, rename="pascal"):
    """A shard that was not taken in, and why."""

    key: str
    error_class: str = msgspec.field(name="Class")
    error: str


class Registered(msgspec.Struct, frozen=True, rename="pascal"):
    """How many were, and which were not."""

    registered: int
    refused: tuple[Refused, ...]


class RecoverAllParams(Filter, frozen=True, kw_only=True):
    """Which of the Errored shards, and how many at once; 0: all."""

    max_concurrency: Annotated[int, msgspec.Meta(ge=0)] = 0


class VerifyParams(Params, frozen=True):
    """`Depth`: each is more than the one before. `Sample`: entries of the index that are looked at, 0: all."""

    keys: tuple[str, ...]
    depth: Depth = Depth.FULL
    sample: Annotated[int, msgspec.Meta(ge=0)] = 0


class TraceParams(Params, frozen=True):
    """`FailuresOnly`: what has made shards Errored. `Recent`: begin with what is remembered from before."""

    failures_only: bool = False
    recent: bool = False


@method("Carfs.RegisterShards", Permission.ADMIN)
async def register_shards(services: Services, params: RegisterAllParams) -> Registered:
    """Takes many shards in, each by itself or not, in few transactions; answers when all that could be are on disk."""
    registrations = [
        Registration(one.key, one.url, one.lazy, one.replicas, one.existing_transient, one.indexer)
        for one in params.shards
    ]
    failures = await services.dagstore.register_all(registrations)
    refused = tuple(
        Refused(one.key, failure.error_class.value, failure.message)
        for one, failure in zip(params.shards, failures, strict=True)
        if failure is not None
    )
    return Registered(len(failures) - len(refused), refused)


@stream("Carfs.RecoverShards", Permission.WRITE, gives=Step)
async def recover_shards(services: Services, params: RecoverAllParams) -> Values:
    """Indexes all Errored shards again that fit a filter; told as by `Filecoin.DagstoreInitializeAll`."""
    chosen = params.chosen(services.dagstore.list_keys(), services.dagstore.find_life)
    errored = [key for key, life in chosen if life.state is ShardState.ERRORED]
    return in_bulk(errored, services.dagstore.recover, limit=params.max_concurrency)


@stream("Carfs.VerifyShards", Permission.WRITE, gives=ScrubEvent)
async def verify_shards(services: Services, params: VerifyParams) -> Values:
    """Verifies shards one after the other, and says how far it is and what it finds."""
    if services.verifier is None:
        raise not_set_up("verification")
    return aclosing(
        services.verifier.verify(params.keys, depth=params.depth, sample=params.sample, by=actor())
    )


@stream("Carfs.WatchShards", Permission.READ, gives=Trace)
async def watch_shards(services: Services, params: TraceParams) -> Values:
    """Each transition of a shard as it happens, for ever; who does not keep up loses the oldest (numbers rise by 1)."""

    @asynccontextmanager
    async def watched() -> AsyncIterator[AsyncIterator[Trace]]:
        traces = services.dagstore.traces
        reader = traces.subscribe()
        try:

            async def each() -> AsyncGenerator[Trace, None]:
                if params.recent:
                    for trace in traces.recent(failures_only=params.failures_only):
                        yield trace
                while events := await reader.wait_next():
                    for trace in events:
                        if trace.error_class or not params.failures_only:
                            yield trace

            async with aclosing(each()) as events:
                yield events
        finally:
            traces.unsubscribe(reader)

    return watched()
