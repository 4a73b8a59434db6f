"""`Carfs.…Deal…`: storage deals, as a provider has them."""

from __future__ import annotations

from typing import Annotated

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.imports.records import given_path
from agent.market.deals import Deals
from agent.market.migrating import Migrated
from agent.market.records import DealRecord, Proposal
from agent.market.sealing import Sealing
from agent.rpc.backend import not_set_up
from agent.rpc.peers import Permission
from agent.rpc.registry import NoParams, Params, method
from agent.rpc.services import Services

Number = Annotated[int, msgspec.Meta(ge=0)]


class ProposeParams(Params, frozen=True):
    """What is proposed; `Client`: who proposes it, for people."""

    proposal: Proposal
    client: Annotated[str, msgspec.Meta(max_length=256)] = ""


class DealParams(Params, frozen=True):
    """The number of a deal here."""

    deal: Number


class GiveParams(Params, frozen=True):
    """`Path`: the CAR, as an absolute path of the agent's machine."""

    deal: Number
    path: str


class MigrateParams(Params, frozen=True):
    """`Path`: what Lotus' tools print of the deals, as JSON, by its absolute path. `Again`: although it was complete.
    `Prune`: and shards go that are of pieces without deals."""

    path: str
    again: bool = False
    prune: bool = False


class UnsealedShown(msgspec.Struct, frozen=True, rename="pascal"):
    """`File` and `Offset` (padded bytes): where the piece is; null where it is not unsealed."""

    unsealed: bool
    file: str | None
    offset: int | None


@method("Carfs.ProposeDeal", Permission.SIGN)
async def propose_deal(services: Services, params: ProposeParams) -> DealRecord:
    """Proposes a deal to this provider, which fetches the data by itself; answers when it is written down."""
    found = deals(services)
    return found.record(found.propose(params.proposal, params.client))


@method("Carfs.ListDeals", Permission.READ)
async def list_deals(services: Services, params: NoParams) -> list[DealRecord]:
    """All of them, oldest first."""
    found = deals(services)
    return [found.record(number) for number in found.numbers()]


@method("Carfs.GetDeal", Permission.READ)
async def get_deal(services: Services, params: DealParams) -> DealRecord:
    """One of them."""
    return deals(services).record(params.deal)


@method("Carfs.WaitDeal", Permission.READ)
async def wait_deal(services: Services, params: DealParams) -> DealRecord:
    """Answers when it is active, or waits for data; or why it has failed."""
    return await deals(services).wait(params.deal)


@method("Carfs.ImportDealData", Permission.ADMIN)
async def import_deal_data(services: Services, params: GiveParams) -> DealRecord:
    """Brings the CAR of an offline deal; it is read where it is, and stays there."""
    found = deals(services)
    found.give(params.deal, given_path(params.path))
    return found.record(params.deal)


@method("Carfs.RetryDeal", Permission.ADMIN)
async def retry_deal(services: Services, params: DealParams) -> DealRecord:
    """Begins a deal that has failed once more, with what has come of its data."""
    found = deals(services)
    found.retry(params.deal)
    return found.record(params.deal)


@method("Carfs.EndDeal", Permission.ADMIN)
async def end_deal(services: Services, params: DealParams) -> DealRecord:
    """Ends a deal; the last one about a piece takes shard and piece with it."""
    found = deals(services)
    found.end(params.deal)
    return found.record(params.deal)


@method("Carfs.DealUnsealed", Permission.READ)
async def deal_unsealed(services: Services, params: DealParams) -> UnsealedShown:
    """Whether the piece of a deal can be read where it lies; nothing is unsealed for that."""
    row = deals(services).row(params.deal)
    if row.placed is None or not await sealing(services).is_unsealed(row):
        return UnsealedShown(unsealed=False, file=None, offset=None)
    return UnsealedShown(unsealed=True, file=row.placed.file, offset=row.placed.offset)


@method("Carfs.UnsealDeal", Permission.ADMIN)
async def unseal_deal(services: Services, params: DealParams) -> UnsealedShown:
    """Has the piece of a deal unsealed, which may take hours."""
    found = deals(services)
    row = found.row(params.deal)
    if row.placed is None:
        raise ShardError(ErrorClass.GONE, f"deal {row.id} has no piece in a sector: it is {row.state.value}")
    placed = await sealing(services).unseal(row)
    found.move(params.deal, placed)
    return UnsealedShown(unsealed=True, file=placed.file, offset=placed.offset)


@method("Carfs.MigrateDeals", Permission.ADMIN)
async def migrate_deals(services: Services, params: MigrateParams) -> Migrated:
    """Registers every active deal of an existing piece store as a shard, lazily; in the words of Lotus' log."""
    if services.migration is None:
        raise not_set_up("piece store")
    return await services.migration.run(given_path(params.path), again=params.again, prune=params.prune)


def deals(services: Services) -> Deals:
    if services.deals is None:
        raise not_set_up("deals")
    return services.deals


def sealing(services: Services) -> Sealing:
    if services.sealing is None:
        raise not_set_up("sealing")
    return services.sealing
