"""`Filecoin.Dagstore…`: names, parameters, results and words as Lotus' storage miner has them."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Annotated

import msgspec

from agent.dagstore import mounts
from agent.dagstore.bulk import Step
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.lifecycle import Life
from agent.rpc.cids import GivenCid, cid_of
from agent.rpc.filters import Page
from agent.rpc.peers import Permission
from agent.rpc.pieces import in_pieces
from agent.rpc.registry import KeyParams, NoParams, Params, Values, method, stream
from agent.rpc.services import Services


class RegisterOptions(Params, frozen=True):
    """The second parameter that `Filecoin.DagstoreRegisterShard` takes here and not in Lotus."""

    url: str = msgspec.field(name="URL")
    lazy: bool = False


class LotusRegisterParams(Params, frozen=True):
    """Lotus' one parameter, a piece CID, or a key of any kind and where its data is."""

    key: str
    options: RegisterOptions | None = None


class InitialiseAllParams(Params, frozen=True):
    """`MaxConcurrency`: how many at once; 0: all."""

    max_concurrency: Annotated[int, msgspec.Meta(ge=0)] = 0
    include_sealed: bool = False


class LookupParams(Params, frozen=True):
    """A CID in any base and version, as text or in Lotus' form."""

    cid: GivenCid


class FindParams(LookupParams, frozen=True):
    """`but`: shards that have been tried; that these have the block is no reason to answer before all are asked."""

    but: tuple[str, ...] = ()


class LotusShard(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' DagstoreShardInfo."""

    key: str
    state: str
    error: str


class LotusGcResult(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' DagstoreShardResult; `FreedBytes` is ours."""

    key: str
    success: bool
    error: str
    freed_bytes: int


@method("Filecoin.DagstoreListShards", Permission.READ, gives=list[LotusShard])
async def list_shards(services: Services, params: Page) -> msgspec.Raw:
    """All shards, by key; with a filter, which Lotus does not have, those that fit."""
    page = params.page(services.dagstore.list_keys(), services.dagstore.find_life)
    return await in_pieces(_lotus(key, life) for key, life in page)


@method("Filecoin.DagstoreRegisterShard", Permission.ADMIN)
async def register_shard(services: Services, params: LotusRegisterParams) -> None:
    """Takes a shard in; it is indexed afterwards. One that is there already, with the same data, stays as it is."""
    options = params.options or RegisterOptions(f"lotus://{params.key}")
    try:
        await services.dagstore.register(params.key, options.url, lazy=options.lazy)
    except ShardError as error:
        if error.error_class is not ErrorClass.EXISTS or not _is_at(services, params.key, options.url):
            raise


@method("Filecoin.DagstoreInitializeShard", Permission.WRITE)
async def initialise_shard(services: Services, params: KeyParams) -> None:
    """Indexes a shard that is New; answers when it is Available, or with what made it Errored."""
    await services.dagstore.initialise(params.key)


@stream("Filecoin.DagstoreInitializeAll", Permission.WRITE, gives=Step)
async def initialise_all(services: Services, params: InitialiseAllParams) -> Values:
    """Indexes all shards that are New; those that must be unsealed first only with `IncludeSealed`."""
    return services.dagstore.initialise_all(params.max_concurrency, params.include_sealed)


@method("Filecoin.DagstoreRecoverShard", Permission.WRITE)
async def recover_shard(services: Services, params: KeyParams) -> None:
    """Indexes an Errored shard again; answers when it is Available, or with what made it Errored again."""
    await services.dagstore.recover(params.key)


@method("Filecoin.DagstoreDestroyShard", Permission.ADMIN)
async def destroy_shard(services: Services, params: KeyParams) -> None:
    """Forgets a shard and removes what was made of it; its data stays. Refused while the shard is used."""
    await services.dagstore.destroy(params.key)


@method("Filecoin.DagstoreLookupPieces", Permission.ADMIN)
async def lookup_pieces(services: Services, params: LookupParams) -> list[LotusShard]:
    """The shards that have the block of a CID."""
    return await found_shards(services, params)


@method("Filecoin.DagstoreGC", Permission.ADMIN)
async def gc(services: Services, params: NoParams) -> list[LotusGcResult]:
    """Removes local copies of remote data that nobody uses; of shards that have none nothing is said (D-10)."""
    collected = await services.dagstore.gc()
    results = [LotusGcResult(one.key, one.success, one.error, one.freed_bytes) for one in collected]
    return sorted(results, key=lambda result: result.key)


async def found_shards(
    services: Services, params: LookupParams, but: Collection[str] = ()
) -> list[LotusShard]:
    """What `DagstoreLookupPieces` and `Carfs.LookupCid` give."""
    cid = cid_of(params.cid)
    found = services.dagstore.lives_of(sorted(await services.dagstore.lookup(cid, but=but)))
    return [_lotus(key, life) for key, life in found]


def _is_at(services: Services, key: str, url: str) -> bool:
    """Whether the data of a shard that was registered before is at `url`."""
    with suppress(ShardError):
        return services.dagstore.record(key).url == mounts.resolve(url).url
    return False


def _lotus(key: str, life: Life) -> LotusShard:
    return LotusShard(key, life.state.value, life.failure.message if life.failure is not None else "")
