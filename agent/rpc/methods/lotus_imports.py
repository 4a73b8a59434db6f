"""`Filecoin.Client…` of imports: names, parameters, results and words as Lotus' client has them."""

from __future__ import annotations

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.imports.imports import Imports
from agent.imports.records import given_path
from agent.imports.requests import Request
from agent.rpc.cids import CidLink, GivenCid, cid_of
from agent.rpc.methods.imports import importing
from agent.rpc.peers import Permission
from agent.rpc.registry import NoParams, Params, method
from agent.rpc.services import Services
from carlib.unixfs.profile import LOTUS


class FileRef(Params, frozen=True):
    """Lotus' FileRef."""

    path: str
    is_car: bool = msgspec.field(name="IsCAR", default=False)


class ImportRes(msgspec.Struct, frozen=True):
    """Lotus' ImportRes."""

    root: CidLink = msgspec.field(name="Root")
    import_id: int = msgspec.field(name="ImportID")


class LotusImport(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' Import."""

    key: int
    err: str
    root: CidLink | None
    source: str
    file_path: str
    car_path: str = msgspec.field(name="CARPath")


class ImportIdParams(Params, frozen=True):
    import_id: int = msgspec.field(name="ImportID")


class RootParams(Params, frozen=True):
    """A CID in any base and version, as text or in Lotus' form."""

    root: GivenCid


class GenCarParams(Params, frozen=True):
    """What to pack, and where to write the CAR; absolute paths of the agent's machine."""

    ref: FileRef
    outpath: str


class DataSize(msgspec.Struct, frozen=True, rename="pascal"):
    """Lotus' DataSize: of the CAR, and of the piece that it would be, padding included."""

    payload_size: int
    piece_size: int


class DataCidSize(msgspec.Struct, frozen=True):
    """Lotus' DataCIDSize."""

    payload_size: int = msgspec.field(name="PayloadSize")
    piece_size: int = msgspec.field(name="PieceSize")
    piece_cid: CidLink = msgspec.field(name="PieceCID")


@method("Filecoin.ClientImport", Permission.ADMIN)
async def client_import(services: Services, params: FileRef) -> ImportRes:
    """Imports a file by references, with Lotus' parameters, or a CAR in place; answers when that is done."""
    imports = importing(services).imports
    request = Request("car" if params.is_car else "ref", profile=LOTUS.name)
    outcome = await imports.add(given_path(params.path), request, wait=True)
    return ImportRes(_link(imports, outcome.number), outcome.number)


@method("Filecoin.ClientListImports", Permission.WRITE)
async def client_list_imports(services: Services, params: NoParams) -> list[LotusImport]:
    """All imports that are made, or failed to be; oldest first."""
    imports = importing(services).imports
    found = []
    for number in imports.numbers():
        try:
            one = imports.record(number)
        except ShardError as error:
            found.append(LotusImport(number, str(error), None, "unknown", "", ""))
            continue
        root = None if one.root is None else CidLink(one.root)
        found.append(LotusImport(one.id, one.error, root, one.source.value, one.file_path, one.car_path))
    return found


@method("Filecoin.ClientRemoveImport", Permission.ADMIN)
async def client_remove_import(services: Services, params: ImportIdParams) -> None:
    """Forgets an import and removes its CAR if that is ours. Refused while it is used (C-11)."""
    await importing(services).imports.remove(params.import_id)


@method("Filecoin.ClientHasLocal", Permission.WRITE)
async def client_has_local(services: Services, params: RootParams) -> bool:
    """Whether there is an import with that root; false if not, and no error (C-10)."""
    return importing(services).imports.find_root(cid_of(params.root)) is not None


@method("Filecoin.ClientGenCar", Permission.ADMIN)
async def client_gen_car(services: Services, params: GenCarParams) -> None:
    """Packs a file (or the DAG of a CAR) into a CARv1 of all its blocks, with Lotus' parameters. For admins, since the
    agent reads and writes what it may."""
    source, out = given_path(params.ref.path), given_path(params.outpath)
    await importing(services).jobs.generate(source, out, is_car=params.ref.is_car, profile=LOTUS.name)


@method("Filecoin.ClientDealSize", Permission.READ)
async def client_deal_size(services: Services, params: RootParams) -> DataSize:
    """How long the CAR of an import is, and the piece that it would be."""
    parts = importing(services)
    found = await parts.jobs.export(_number(parts.imports, params.root), "size")
    return DataSize(found["payload"], found["padded"])


@method("Filecoin.ClientDealPieceCID", Permission.READ)
async def client_deal_piececid_of(services: Services, params: RootParams) -> DataCidSize:
    """The piece that the CAR of an import is; hashes all of it."""
    parts = importing(services)
    found = await parts.jobs.export(_number(parts.imports, params.root), "piece")
    return DataCidSize(found["payload"], found["padded"], CidLink(found["root"]))


def _number(imports: Imports, root: GivenCid) -> int:
    cid = cid_of(root)
    number = imports.find_root(cid)
    if number is None:
        raise ShardError(ErrorClass.NOT_FOUND, f"no import has the root {cid}", key=str(cid))
    return number


def _link(imports: Imports, number: int) -> CidLink:
    root = imports.record(number).root
    assert root is not None
    return CidLink(root)
