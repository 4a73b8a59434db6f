"""`Carfs.…Retrieval…`: DAGs that are fetched from elsewhere, by number or root."""

from __future__ import annotations

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.imports.records import ImportRecord
from agent.retrievals.copying import copied
from agent.retrievals.records import RetrievalRecord, Wanted
from agent.retrievals.retrievals import Retrievals
from agent.rpc.backend import not_set_up
from agent.rpc.peers import Permission
from agent.rpc.registry import NoParams, Params, method
from agent.rpc.services import Services
from agent.transfer.sources.naming import IPFS
from carlib.cid import Cid
from carlib.errors import CarError

Which = int | str
"""The number of a retrieval, or its root in any base and version."""


class StartRetrievalParams(Params, frozen=True):
    """`Path` and `Range` ("first:last") or `Selector`: only that part. `From`: sources besides those configured, which
    only admins may name. `Lazy`: only blocks that somebody wants.
    `OnDemand`: likewise, if the configuration lets mounts do that. `AllowLocal`: whether what shards and imports hold
    is taken from there; null: as `retrieval.allow_local` says. `To`: an IPFS node that it is put into, too, as "ipfs"
    or, from admins, "ipfs:ADDRESS"; null: as `ipfs.use_for_retrieval` says. `Wait`: answer when it is done."""

    root: str
    path: str = ""
    range: str = ""
    selector: str = ""
    from_: tuple[str, ...] = msgspec.field(name="From", default=())
    lazy: bool = False
    on_demand: bool = False
    allow_local: bool | None = None
    to: str | None = None
    wait: bool = False

    def needs(self) -> Permission:
        """A source, or a node, may be at a private address; those of the configuration are the operator's."""
        named = set(self.from_) | {self.to or IPFS}
        return Permission.ADMIN if named - {IPFS} else Permission.WRITE


class RetrievalParams(Params, frozen=True):
    retrieval: Which


class ImportParams(Params, frozen=True):
    """`Name` of the import; its root if there is none."""

    retrieval: Which
    name: str = ""


class WantParams(Params, frozen=True):
    """Blocks, by their CIDs."""

    retrieval: Which
    cids: tuple[str, ...] = msgspec.field(name="CIDs")


class SessionParams(Params, frozen=True):
    session: str
    retrieval: int


@method("Carfs.StartRetrieval", Permission.WRITE)
async def start_retrieval(services: Services, params: StartRetrievalParams) -> RetrievalRecord:
    """Fetches a DAG, or a part of it, into a CAR of its own; goes on with what is there of it."""
    found = retrievals(services)
    if params.on_demand and not found.on_demand:
        raise ShardError(ErrorClass.DENIED, "nothing is fetched on demand: retrieval.on_demand is false")
    lazy = params.lazy or params.on_demand
    wanted = Wanted(
        params.root, params.path, params.range, params.selector, lazy, params.allow_local, params.to
    )
    number = found.start(wanted, params.from_)
    return await found.wait(number) if params.wait else found.record(number)


@method("Carfs.ListRetrievals", Permission.READ)
async def list_retrievals(services: Services, params: NoParams) -> list[RetrievalRecord]:
    """All of them, oldest first."""
    found = retrievals(services)
    return [found.record(number) for number in found.numbers()]


@method("Carfs.GetRetrieval", Permission.READ)
async def get_retrieval(services: Services, params: RetrievalParams) -> RetrievalRecord:
    """One of them."""
    found = retrievals(services)
    return found.record(found.find(params.retrieval))


@method("Carfs.WaitRetrieval", Permission.READ)
async def wait_retrieval(services: Services, params: RetrievalParams) -> RetrievalRecord:
    """Answers when it is done, or why it is not."""
    found = retrievals(services)
    return await found.wait(found.find(params.retrieval))


@method("Carfs.CancelRetrieval", Permission.WRITE)
async def cancel_retrieval(services: Services, params: RetrievalParams) -> None:
    """Calls it off; what has come stays, for who asks for it again."""
    found = retrievals(services)
    await found.cancel(found.find(params.retrieval))


@method("Carfs.RemoveRetrieval", Permission.WRITE)
async def remove_retrieval(services: Services, params: RetrievalParams) -> None:
    """Forgets it and removes its CAR; refused while it is read."""
    found = retrievals(services)
    await found.remove(found.find(params.retrieval))


@method("Carfs.ImportRetrieval", Permission.WRITE)
async def import_retrieval(services: Services, params: ImportParams) -> ImportRecord:
    """Makes an import of what was retrieved whole: a CAR of its own, which stays when the retrieval is removed."""
    if services.importing is None:
        raise not_set_up("imports")
    imports = services.importing.imports
    found = retrievals(services)
    outcome = await copied(found, found.find(params.retrieval), imports, params.name)
    return imports.record(outcome.number)


@method("Carfs.WantBlocks", Permission.READ)
async def want_blocks(services: Services, params: WantParams) -> None:
    """Answers when these blocks are in the CAR of a retrieval that is under way; they come before all else."""
    found = retrievals(services)
    try:
        cids = [Cid.parse(text) for text in params.cids]
    except CarError as error:
        raise ShardError(ErrorClass.INVALID, str(error)) from None
    if cids:
        await found.want(found.find(params.retrieval), cids)


@method("Carfs.AcquireRetrieval", Permission.READ)
async def acquire_retrieval(services: Services, params: SessionParams) -> RetrievalRecord:
    """Takes a lease on a retrieval for a session."""
    return services.leases.acquire_retrieval(params.session, params.retrieval)


@method("Carfs.ReleaseRetrieval", Permission.READ)
async def release_retrieval(services: Services, params: SessionParams) -> bool:
    """Gives the lease back; false if there was none (any more)."""
    return services.leases.release_retrieval(params.session, params.retrieval)


def retrievals(services: Services) -> Retrievals:
    if services.retrievals is None:
        raise not_set_up("retrievals")
    return services.retrievals
