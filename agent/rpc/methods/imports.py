"""`Carfs.…Import…`: the imports by number, name or root, and what is done with one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Annotated, Literal

import msgspec
import trio

from agent.dagstore.failures import ShardError
from agent.imports.imports import Imports
from agent.imports.jobs import Remade
from agent.imports.lotus import LotusImports
from agent.imports.opening import Importing
from agent.imports.records import ImportRecord, Skipped, Wanted, given_path
from agent.imports.requests import Request
from agent.imports.tasks import Found
from agent.rpc.backend import not_set_up
from agent.rpc.peers import Permission
from agent.rpc.pieces import in_pieces
from agent.rpc.registry import Params, Values, method, stream
from agent.rpc.services import Services
from carlib.unixfs.profile import CARFS

Which = int | str
"""The number, the name or the root of an import."""


class ImportParams(Params, frozen=True):
    """`Path`: absolute, or a `file:` URL; what was put into `$CARFS_PATH/staging` is taken over. `Name`: none is made
    of the path. `Kind`: "auto" is a CAR if it begins as one, else references. `Hidden`: null is as the profile has it.
    `Wait`: answer when it is made. `Share`: a dense one refers to files of other imports that have the same blocks."""

    path: str
    name: str = ""
    kind: Wanted = "auto"
    profile: str = CARFS.name
    hidden: bool | None = None
    preserve: Literal["", "mode", "mtime", "all"] = ""
    wait: bool = True
    share: bool = False


class Imported(msgspec.Struct, frozen=True, rename="pascal"):
    """The import; `Existing`: it was there before, and has the same root."""

    id: int = msgspec.field(name="ID")
    name: str
    root: str | None
    state: str
    existing: bool
    size: int | None
    blocks: int | None
    skipped: tuple[Skipped, ...]  # the first of what is not in it
    skipped_count: int


class WhichParams(Params, frozen=True):
    import_: Which = msgspec.field(name="Import")


class RenameParams(Params, frozen=True):
    import_: Which = msgspec.field(name="Import")
    name: str


class VerifyImportParams(Params, frozen=True):
    """`Deep`: read everything, and not only what seems changed."""

    import_: Which = msgspec.field(name="Import")
    deep: bool = False


class RepairParams(Params, frozen=True):
    """`Also`: further files in which lost blocks may be. `Deep`: read what looks as it did, too."""

    import_: Which = msgspec.field(name="Import")
    also: tuple[str, ...] = ()
    deep: bool = False


class RelinkParams(Params, frozen=True):
    """`Path`: where the source is now. `Deep`: read what looks as it did, too."""

    import_: Which = msgspec.field(name="Import")
    path: str
    deep: bool = False


class ImportLeaseParams(Params, frozen=True):
    session: str
    import_: Which = msgspec.field(name="Import")


class Block(msgspec.Struct, frozen=True, rename="pascal"):
    """Bytes of a file of the user's that are no longer the block."""

    path: str
    offset: int
    size: int
    cid: str


class ImportVerdict(msgspec.Struct, frozen=True, rename="pascal"):
    """What verifying found. `Good`: nothing."""

    good: bool
    broken: str  # what is wrong with the CAR itself; "": nothing
    broken_class: str
    stale_files: tuple[str, ...]  # the first
    stale_count: int
    touched: int  # files that look changed and are not
    changed_blocks: int
    blocks: tuple[Block, ...]  # the first
    read_bytes: int
    record: ImportRecord


class VerifyStep(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    """`Event` is "progress", with bytes done and in all, or at the end "verdict"."""

    event: str
    done: int = 0
    total: int = 0
    verdict: ImportVerdict | None = None


class LotusImportsParams(Params, frozen=True):
    """A folder with Lotus' imports, or a file of lines: see docs/imports.md."""

    path: str


class PageParams(Params, frozen=True):
    """`After`: the number of the last one of the page before. `Limit`: 0 is all."""

    after: int = 0
    limit: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0


@method("Carfs.Import", Permission.ADMIN)
async def import_path(services: Services, params: ImportParams) -> Imported:
    """Imports a file, a directory or a CAR of the agent's machine; of one with the same root, that is given instead."""
    request = Request(params.kind, params.name, params.profile, params.hidden, params.preserve, params.share)
    imports = importing(services).imports
    outcome = await imports.add(given_path(params.path), request, wait=params.wait)
    return imported(imports, outcome.number, existing=outcome.existing)


@method("Carfs.Imports", Permission.READ, gives=list[ImportRecord])
async def list_imports(services: Services, params: PageParams) -> msgspec.Raw:
    """The records of all imports, oldest first."""
    return await in_pieces(_records(importing(services).imports, params))


@method("Carfs.GetImport", Permission.READ)
async def get_import(services: Services, params: WhichParams) -> ImportRecord:
    """The record of an import."""
    imports = importing(services).imports
    return imports.record(imports.find(params.import_))


@method("Carfs.WaitImport", Permission.READ)
async def wait_import(services: Services, params: WhichParams) -> Imported:
    """Answers when an import is made, or with why it is not."""
    imports = importing(services).imports
    outcome = await imports.wait_made(imports.find(params.import_))
    return imported(imports, outcome.number, existing=outcome.existing)


@method("Carfs.CancelImport", Permission.ADMIN)
async def cancel_import(services: Services, params: WhichParams) -> None:
    """Calls off an import that is being made; nothing of it is left."""
    imports = importing(services).imports
    await imports.cancel(imports.find(params.import_))


@method("Carfs.RemoveImport", Permission.ADMIN)
async def remove_import(services: Services, params: WhichParams) -> None:
    """Forgets an import and removes what is ours of it, never the user's files. Refused while it is used."""
    imports = importing(services).imports
    await imports.remove(imports.find(params.import_))


@method("Carfs.RenameImport", Permission.ADMIN)
async def rename_import(services: Services, params: RenameParams) -> ImportRecord:
    """Gives an import another name."""
    imports = importing(services).imports
    number = imports.find(params.import_)
    imports.rename(number, params.name)
    return imports.record(number)


@stream("Carfs.VerifyImport", Permission.WRITE, gives=VerifyStep)
async def verify_import(services: Services, params: VerifyImportParams) -> Values:
    """Looks whether an import and the files that it refers to are as they were; says how far it is, and the verdict."""
    parts = importing(services)
    return _verified(parts, parts.imports.find(params.import_), params.deep)


@method("Carfs.RepairImport", Permission.ADMIN)
async def repair_import(services: Services, params: RepairParams) -> Remade:
    """Finds blocks that have moved within the source, and links them anew."""
    parts = importing(services)
    also = tuple(given_path(path) for path in params.also)
    return await parts.jobs.repair(parts.imports.find(params.import_), deep=params.deep, also=also)


@method("Carfs.RelinkImport", Permission.ADMIN)
async def relink_import(services: Services, params: RelinkParams) -> Remade:
    """Links an import to its source where that is now; refused if that is not the same."""
    parts = importing(services)
    path = given_path(params.path)
    return await parts.jobs.relink(parts.imports.find(params.import_), path, deep=params.deep)


@method("Carfs.FreezeImport", Permission.ADMIN)
async def freeze_import(services: Services, params: WhichParams) -> Remade:
    """Makes an import independent of the user's files, by clones where the file system can, else by a copy."""
    parts = importing(services)
    return await parts.jobs.freeze(parts.imports.find(params.import_))


@method("Carfs.AcquireImport", Permission.READ)
async def acquire_import(services: Services, params: ImportLeaseParams) -> ImportRecord:
    """Takes a lease on an import for a session; refused while it is being made, or if it is broken."""
    number = importing(services).imports.find(params.import_)
    return services.leases.acquire_import(params.session, number)


@method("Carfs.ReleaseImport", Permission.READ)
async def release_import(services: Services, params: ImportLeaseParams) -> bool:
    """Gives the lease back; false if there was none (any more)."""
    number = importing(services).imports.find(params.import_)
    return services.leases.release_import(params.session, number)


@method("Carfs.CheckLotusImports", Permission.ADMIN)
async def check_lotus_imports(services: Services, params: LotusImportsParams) -> LotusImports:
    """What of the imports of a Lotus node works and what must be imported anew, in the words of Lotus' log."""
    path = given_path(params.path)
    return await importing(services).imports.tasks.check_lotus(str(path))


def importing(services: Services) -> Importing:
    """The imports; raises ShardError where there are none."""
    if services.importing is None:
        raise not_set_up("imports")
    return services.importing


def imported(imports: Imports, number: int, *, existing: bool = False) -> Imported:
    """What is said of an import that was asked for."""
    record = imports.record(number)
    return Imported(
        record.id, record.name, record.root, record.state, existing, record.size, record.blocks, record.skipped,
        record.skipped_count,
    )  # fmt: skip


def _records(imports: Imports, params: PageParams) -> Iterator[ImportRecord]:
    given = 0
    for number in imports.numbers():
        if number > params.after and (not params.limit or given < params.limit):
            with suppress(ShardError):  # removed since we began, or damaged
                yield imports.record(number)
                given += 1


@asynccontextmanager
async def _verified(parts: Importing, number: int, deep: bool) -> AsyncIterator[AsyncIterator[VerifyStep]]:
    send, receive = trio.open_memory_channel[VerifyStep](1)

    def told(done: int, total: int) -> None:
        with suppress(trio.WouldBlock):  # who does not read gets the next one
            send.send_nowait(VerifyStep("progress", done, total))

    async def run() -> None:
        async with send:
            found = await parts.jobs.verify(number, deep=deep, progress=told)
            await send.send(VerifyStep("verdict", verdict=_verdict(found, parts.imports.record(number))))

    async def steps() -> AsyncGenerator[VerifyStep, None]:
        async for step in receive:
            yield step

    async with trio.open_nursery() as nursery, aclosing(steps()) as values:
        nursery.start_soon(run)
        yield values
        nursery.cancel_scope.cancel()


def _verdict(found: Found, record: ImportRecord) -> ImportVerdict:
    blocks = tuple(
        msgspec.convert({key.capitalize(): value for key, value in one.items()}, Block)
        for one in found.blocks
    )
    return ImportVerdict(
        good=not found.broken and not found.count,
        broken=found.broken,
        broken_class=found.broken_class,
        stale_files=found.files,
        stale_count=found.count,
        touched=found.touched,
        changed_blocks=found.changed_blocks,
        blocks=blocks,
        read_bytes=found.read_bytes,
        record=record,
    )
