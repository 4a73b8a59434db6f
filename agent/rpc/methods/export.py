"""`Filecoin.ClientExport`, and ours: data of imports and shards as files, directories and CARs, and what is in them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Literal

import msgspec
import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.export.exporting import Exported, Exporter
from agent.export.holders import Holders
from agent.export.listing import Line
from agent.export.orders import Order, parse_path
from agent.imports.records import given_path
from agent.retrievals.transitions import State
from agent.rpc.backend import not_set_up
from agent.rpc.cids import GivenCid, cid_of
from agent.rpc.methods.imports import importing
from agent.rpc.peers import Permission
from agent.rpc.registry import Params, Values, method, stream
from agent.rpc.services import Services


class DagSpec(Params, frozen=True):
    """Lotus' DagSpec: a JSON selector, or a text path through the data model."""

    data_selector: str | None = None
    export_merkle_proof: bool = False


class ExportRef(Params, frozen=True):
    """Lotus' ExportRef; a CID in any base and version, as text or in Lotus' form. `FromLocalCAR`: the CAR of an
    import, as `ClientListImports` has it, or any other. `DealID`: what that retrieval has fetched, alone. Ours:
    `Paths` in UnixFS instead of `DAGs`, with `MerkleProof`; a `Range` of bytes, "first:last" or "first:*"; the
    `Version` of the CAR."""

    root: GivenCid
    dags: tuple[DagSpec, ...] | None = msgspec.field(name="DAGs", default=None)
    from_local_car: str = msgspec.field(name="FromLocalCAR", default="")
    deal_id: int = msgspec.field(name="DealID", default=0)
    paths: tuple[str, ...] = ()
    merkle_proof: bool = False
    range: str = ""
    version: Literal[1, 2] = 1


class ClientFileRef(Params, frozen=True):
    """Lotus' FileRef: where to, as an absolute path of the agent's machine."""

    path: str
    is_car: bool = msgspec.field(name="IsCAR", default=False)


class ClientExportParams(Params, frozen=True):
    export_ref: ExportRef
    file_ref: ClientFileRef


class ExportParams(Params, frozen=True):
    """`Path`: where to, as an absolute path of the agent's machine. `Replace`: what stands there."""

    ref: ExportRef
    path: str
    is_car: bool = msgspec.field(name="IsCAR", default=False)
    replace: bool = False


class ListParams(Params, frozen=True):
    """`Path` in UnixFS below the root; `IPLD`: nodes instead of entries, below `DataSelector` if there is one."""

    root: GivenCid
    path: str = ""
    depth: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    ipld: bool = msgspec.field(name="IPLD", default=False)
    data_selector: str = ""


class FindParams(Params, frozen=True):
    """A CID in any base and version, as text or in Lotus' form; of a root, or of any block."""

    root: GivenCid


class ImportHolder(msgspec.Struct, frozen=True, rename="pascal"):
    """An import that holds a block; `IsRoot`: as its root."""

    id: int = msgspec.field(name="ID")
    name: str
    is_root: bool


class FoundData(msgspec.Struct, frozen=True, rename="pascal"):
    """Who holds a block: imports, and keys of shards. `Incomplete`: why there may be more shards."""

    imports: tuple[ImportHolder, ...]
    shards: tuple[str, ...]
    incomplete: str


@method("Filecoin.ClientExport", Permission.ADMIN)
async def client_export(services: Services, params: ClientExportParams) -> None:
    """Exports data of imports and shards to a path where nothing is yet: a file or directory, or a CAR."""
    order = order_of(services, params.export_ref, is_car=params.file_ref.is_car)
    await exporter(services).to_file(order, given_path(params.file_ref.path), replacing=False)


@method("Carfs.Export", Permission.ADMIN)
async def export(services: Services, params: ExportParams) -> Exported:
    """The same; says what was written, and may replace what is there."""
    order = order_of(services, params.ref, is_car=params.is_car)
    return await exporter(services).to_file(order, given_path(params.path), replacing=params.replace)


@stream("Carfs.ListData", Permission.READ, gives=Line)
async def list_data(services: Services, params: ListParams) -> Values:
    """The entries of a directory in any import or shard, or the paths of its nodes."""
    paths = (path,) if (path := parse_path(params.path)) else ()
    selectors = (params.data_selector,) if params.data_selector else ()
    if selectors and not params.ipld:
        raise ShardError(ErrorClass.INVALID, "a data selector is for a listing of nodes (IPLD)")
    if selectors and paths:
        raise ShardError(ErrorClass.INVALID, "give a path or a data selector, not both")
    order = Order(cid_of(params.root), paths, selectors)
    return _listed(exporter(services), order, params.depth, params.ipld)


@method("Carfs.FindData", Permission.READ)
async def find_data(services: Services, params: FindParams) -> FoundData:
    """The imports and shards that hold the block of a CID."""
    cid = cid_of(params.root)
    imports, holders = importing(services).imports, _holders(services)
    try:
        shards, incomplete = await holders.shards(cid), ""
    except ShardError as error:
        if error.error_class is not ErrorClass.BUSY:
            raise
        shards, incomplete = [], str(error)
    best = imports.find_root(cid)
    found = [imports.row(number) for number in await holders.imports(cid)]
    held = tuple(ImportHolder(row.id, row.name, row.id == best) for row in found)
    return FoundData(held, tuple(shards), incomplete)


def order_of(services: Services, ref: ExportRef, *, is_car: bool) -> Order:
    """Raises ShardError(invalid | not-found)."""
    dags = [spec for spec in ref.dags or () if spec.data_selector]
    return Order(
        cid_of(ref.root),
        tuple(map(parse_path, ref.paths)),
        tuple(spec.data_selector for spec in dags if spec.data_selector),
        ref.merkle_proof or any(spec.export_merkle_proof for spec in dags),
        ref.range,
        is_car,
        ref.version,
        _one_car(services, ref),
    ).checked()


def exporter(services: Services) -> Exporter:
    """Raises ShardError where there are no imports."""
    imports = importing(services).imports
    if services.workers is None:
        raise not_set_up("workers")
    return Exporter(_holders(services), services.workers, imports.places, imports.reserve)


def _holders(services: Services) -> Holders:
    if services.workers is None:
        raise not_set_up("workers")
    return Holders(services.dagstore, importing(services).imports, services.workers, services.retrievals)


def _one_car(services: Services, ref: ExportRef) -> str:
    """The CAR that alone is read from; "": whoever holds the root."""
    if ref.from_local_car:
        return _foreign_car(services, ref.from_local_car)
    return _retrieved(services, ref.deal_id) if ref.deal_id else ""


def _foreign_car(services: Services, path: str) -> str:
    """The CAR to read from; "": that of an import, which is found by its root, and read with its references (C-3)."""
    imports = importing(services).imports
    given = str(given_path(path))
    known = {imports.row(number).car_path for number in imports.numbers()}
    if given in known:
        return ""
    if not services.sees_secrets:
        raise ShardError(ErrorClass.DENIED, f"{given} is not the CAR of an import, so it is for admins alone")
    return given


def _retrieved(services: Services, number: int) -> str:
    """The CAR of a retrieval that is done."""
    found = services.retrievals
    if found is None or number not in found.numbers():
        raise ShardError(ErrorClass.NOT_FOUND, f"there is no retrieval deal {number} here", key=str(number))
    record = found.record(number)
    if found.state(number) is not State.DONE:
        message = f"retrieval {record.name} is not done ({record.state}); wait for it with ClientRetrieveWait"
        raise ShardError(ErrorClass.BUSY, message, key=str(number))
    return record.car_path


@asynccontextmanager
async def _listed(
    exporter: Exporter, order: Order, depth: int, ipld: bool
) -> AsyncIterator[AsyncIterator[Line]]:
    give, take = trio.open_memory_channel[bytes](1)

    async def run() -> None:
        await exporter.listing(order, depth=depth, ipld=ipld, send=give.send)
        give.close()  # only of a whole listing: else its reader might take the end for the whole before the error comes

    async def lines() -> AsyncGenerator[Line, None]:
        rest = b""
        async for piece in take:
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield msgspec.convert(json.loads(line), Line)

    async with trio.open_nursery() as nursery, aclosing(lines()) as values:
        nursery.start_soon(run)
        yield values
        nursery.cancel_scope.cancel()
