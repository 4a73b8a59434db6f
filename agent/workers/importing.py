"""The task `import`: makes an import of a file, a directory or a stream, or takes in a CAR that is there.

Takes `{"kind", "path", "staging", "out", "index", "folder", "profile", "hidden", "preserve", "owned", "stream",
"share"}` and
gives what `imports.records.Facts` holds. `kind` is `ref`, `dense` or `car`. Everything is made in the folder `staging`,
which is for this task alone, and appears as `out` (the CAR) and `index` (of one that has none) complete and on disk, or
not at all. A CAR stays at `path` unless it is `owned`: then it becomes `out`. `stream`: `path` is a FIFO, framed as
`imports.streams` says. `share`: CARs of other imports, whose files may be referred to instead of being stored.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from agent.dagstore.access import Fetch
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import Fingerprint
from agent.imports import streams
from agent.imports.records import SHOWN_FILES, Facts, Kind, Skipped
from agent.workers.messages import Params
from agent.workers.tasks import Progress
from carlib import durable, indexing, unixfs
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.container import Container, read_container
from carlib.errors import CarError
from carlib.existing import adopt
from carlib.limits import MIB
from carlib.pack import PackReport, Preserve, SourceChanged, Unreadable, pack, pack_stream
from carlib.references import Reference, ReferenceBlockstore
from carlib.references.packing import pack_references
from carlib.references.sharing import SharedLeaves
from carlib.references.table import ReferenceTable
from carlib.source import FileSource
from carlib.unixfs.profile import PROFILES
from carlib.verify import Depth, verify

_PRESERVE = {"": Preserve.NOTHING, "mode": Preserve.MODE, "mtime": Preserve.MTIME, "all": Preserve.ALL}


def import_source(params: Params, progress: Progress, fetch: Fetch) -> Params:
    """Makes it; raises ShardError, CarError, OSError."""
    try:
        facts = _car(params, progress) if params["kind"] == Kind.CAR else _packed(params, progress)
    except SourceChanged as error:
        raise ShardError(ErrorClass.BUSY, f"{error}; import it when it rests") from error
    except Unreadable as error:
        raise ShardError(ErrorClass.DENIED, str(error)) from error
    except ValueError as error:
        if isinstance(error, CarError):
            raise
        raise ShardError(ErrorClass.INVALID, str(error)) from error
    given: Params = msgspec.to_builtins(facts)
    return given


def _packed(params: Params, progress: Progress) -> Facts:
    made = Path(params["staging"]) / "made.car"
    out = Path(params["out"])
    report = _pack(params, made, progress)
    made.rename(out)
    durable.sync_folder(out.parent)
    facts = facts_of(out)
    return msgspec.structs.replace(
        facts,
        size=report.bytes,
        skipped=tuple(
            Skipped(_text(os.fsencode(one.path)), one.reason) for one in report.skipped[:SHOWN_FILES]
        ),
        skipped_count=len(report.skipped),
    )


def _pack(params: Params, made: Path, progress: Progress) -> PackReport:
    profile = PROFILES[params["profile"]]
    if params["hidden"] is not None:
        profile = replace(profile, hidden=params["hidden"])
    preserve = _PRESERVE[params["preserve"]]
    path = Path(params["path"])
    sharing = _sharing(params["share"])
    if params["stream"]:
        with streams.arriving(path) as stream:
            return pack_stream(stream, made, profile=profile, progress=progress, sharing=sharing)
    if params["kind"] == Kind.REF:
        folder = Path(params["folder"])
        return pack_references(
            path, made, folder=folder, profile=profile, progress=progress, preserve=preserve
        )
    return pack(path, made, profile=profile, progress=progress, preserve=preserve, sharing=sharing)


def _sharing(cars: Sequence[str]) -> SharedLeaves | None:
    """Leaves that lie in files which these imports refer to are referred to, too."""
    if not cars:
        return None
    stores = [ReferenceBlockstore.open(Path(car), Path("/")) for car in cars]

    def known(cid: Cid) -> Reference | None:
        return next((found for store in stores if (found := store.references.find(cid)) is not None), None)

    return SharedLeaves(known)


def _car(params: Params, progress: Progress) -> Facts:
    """A CAR with one root, every block of which hashes to its CID."""
    path, out, staging = Path(params["path"]), Path(params["out"]), Path(params["staging"])
    if params["stream"]:
        path = _received(path, staging / "upload.car", progress)
    before = path.stat()
    found = adopt(path, progress=progress)
    if len(found.roots) != 1:
        what = "car file can have one and only one root"  # Lotus' words
        raise ShardError(ErrorClass.INVALID, f"{what}, and {path} has {len(found.roots)}")
    if found.missing_roots:
        raise ShardError(ErrorClass.CORRUPT, f"{path}: {found.note}")
    if found.has_references:
        raise ShardError(ErrorClass.INVALID, f"{path} refers to files that are elsewhere; import these")
    index = None
    if not found.has_index or verify(path, depth=Depth.INDEX).index_state != "good":
        index = staging / Path(params["index"]).name
        indexing.build(path, index, identity=True)
        index = index.rename(params["index"])
        durable.sync_folder(index.parent)
    after = path.stat()
    if (before.st_size, before.st_mtime_ns, before.st_ino) != (
        after.st_size,
        after.st_mtime_ns,
        after.st_ino,
    ):
        raise ShardError(ErrorClass.BUSY, f"{path} was written to while it was verified")
    if params["owned"]:
        path.rename(out)
        durable.sync_folder(out.parent)
        path = out
    return msgspec.structs.replace(facts_of(path, index=index), blocks=found.blocks)


def _received(fifo: Path, path: Path, progress: Progress) -> Path:
    done = 0
    with streams.arriving(fifo) as stream, durable.replacing(path) as file:
        while piece := stream.read(MIB):
            file.write(piece)
            done += len(piece)
            progress(done, 0)
    return path


def facts_of(path: Path, *, index: Path | None = None) -> Facts:
    """What stands in a CAR that is known to be good."""
    with FileSource(path) as source:
        container = read_container(source)
        table = ReferenceTable.find_in(source, container)
        found = path.stat()
    with ReadOnlyBlockstore.open(path, index=index) as store:
        blocks = len(store.index)
        size = _content_bytes(store, container)
    return Facts(
        root=str(container.roots[0]),
        roots=tuple(map(str, container.roots[:SHOWN_FILES])),
        size=size,
        blocks=blocks + (0 if table is None else len(table)),
        files=0 if table is None else len(table.files),
        version=container.version,
        data_offset=container.data_offset,
        data_size=container.data_size,
        fingerprint=Fingerprint(found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev),
        index="" if index is None else index.name,
    )


def _content_bytes(store: ReadOnlyBlockstore, container: Container) -> int:
    """Of the file that the root is; of all else, of the blocks."""
    root: Cid = container.roots[0]
    try:
        found = unixfs.stat(store, root)
    except CarError:
        return container.data_size
    return found.size if found.kind is unixfs.Kind.FILE else container.data_size


def _text(path: bytes) -> str:
    """The path as JSON can carry it."""
    return path.decode(errors="backslashreplace")
