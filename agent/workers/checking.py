"""The task `check-import`: whether imports are as they were when they were made, and making them so again.

Takes `{"what": "check", "imports": [IMPORT, …], "depth", "seconds"}` and gives `{"imports": [FOUND, …]}` in the same
order, or `{"what": "repair" | "relink", …IMPORT, "out", "staging", "profile", "deep", "also" | "old", "new"}` and gives
what `imports.records.Facts` holds as `facts`, and what was done; `{"what": "lotus", "path"}` gives what
`imports.lotus.LotusImports` holds. IMPORT is `{"id", "kind", "car", "index", "folder", "fingerprint"}`.

`depth` is, each more than the one before: `look` (what files look like from outside), `start` (the CAR's header, index
and table, too), `suspects` (files that do not look as they did are read), `deep` (everything is read). What is left
after so many `seconds` (0: any number) is not looked at.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import msgspec

from agent.dagstore.access import Fetch
from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.dagstore.mounts import Fingerprint
from agent.imports import lotus
from agent.imports.records import SHOWN_FILES, Kind
from agent.workers.importing import facts_of
from agent.workers.messages import Params
from agent.workers.tasks import Progress
from carlib import durable, verify
from carlib.blockstore import ReadOnlyBlockstore
from carlib.container import read_container
from carlib.errors import CarError, Malformed
from carlib.references import ReferenceBlockstore, Status
from carlib.references.checking import check_import
from carlib.references.fingerprints import statuses
from carlib.references.relinking import NotTheSame, relink
from carlib.references.repairing import repair
from carlib.references.table import ReferenceTable
from carlib.references.target import Target
from carlib.source import FileSource
from carlib.unixfs.profile import PROFILES

SHOWN_BLOCKS = 100
FILES_TOGETHER = 10_000  # in memory at once: an import may refer to millions


@dataclass
class Found:
    """What was found out about one import."""

    id: int
    size: int = 0  # of the CAR
    is_unknown: bool = False  # there was no time for it
    is_dense: bool = False  # it has no references, though it is said to: it was frozen just before a kill
    broken: str = ""
    broken_class: str = ""
    files: list[str] = field(default_factory=list)  # that are not as they were, the first of them
    count: int = 0
    signature: str = ""  # of how all of these look now
    touched: int = 0  # files that only look changed
    changed_blocks: int = 0
    blocks: list[Params] = field(default_factory=list)  # the first of these
    read_bytes: int = 0
    fingerprint: Params | None = None  # of the CAR, if that is another than the one that is known

    def broke(self, error_class: ErrorClass, message: str) -> None:
        self.broken, self.broken_class = message, error_class.value


@dataclass(frozen=True)
class Import:
    """What we are told of one."""

    id: int
    kind: str
    car: str
    index: str
    folder: str
    fingerprint: Fingerprint

    @property
    def index_path(self) -> Path | None:
        return Path(self.index) if self.index else None


def check(params: Params, progress: Progress, fetch: Fetch) -> Params:
    """See above; raises ShardError, CarError, OSError for what is remade, and nothing for what is checked."""
    if params["what"] == "lotus":
        given_lotus: Params = msgspec.to_builtins(lotus.check(Path(params["path"])))
        return given_lotus
    if params["what"] != "check":
        return _remade(params, progress)
    ends = time.monotonic() + params["seconds"] if params["seconds"] else None
    found = []
    for number, one in enumerate(params["imports"]):
        if ends is not None and time.monotonic() > ends:
            found.append(Found(one["id"], is_unknown=True))
        else:
            found.append(_checked(msgspec.convert(one, Import), params["depth"], progress))
        if len(params["imports"]) > 1:
            progress(number + 1, len(params["imports"]))
    given: Params = {"imports": msgspec.to_builtins(found)}
    return given


def _checked(one: Import, depth: str, progress: Progress) -> Found:
    found = Found(one.id)
    try:
        look = Path(one.car).stat()
        found.size = look.st_size
        now = Fingerprint(look.st_size, look.st_mtime_ns, look.st_ino, look.st_dev)
        if one.fingerprint.differs_from(now):
            found.fingerprint = msgspec.to_builtins(now)
        found.is_dense = one.kind == Kind.REF and _is_whole(Path(one.car))
        if one.kind == Kind.REF and not found.is_dense:
            _check_references(one, depth, found, progress)
        else:
            _check_car(one, depth, found, progress)
    except CarError as error:
        found.broke(ErrorClass.CORRUPT, str(error))
    except OSError as error:
        found.broke(class_of_os_error(error), f"{shown(one.car)}: {error.strerror}")
    return found


def _check_car(one: Import, depth: str, found: Found, progress: Progress) -> None:
    if found.fingerprint is not None and not found.is_dense and depth in ("look", "start"):
        difference = one.fingerprint.differs_from(Fingerprint(**found.fingerprint))
        raise Malformed(f"was written to since it was imported: {difference}", source=shown(one.car))
    if depth == "look":
        return
    with ReadOnlyBlockstore.open(Path(one.car), index=one.index_path) as store:
        if one.index_path is None and not store.container.index_offset:
            raise Malformed("there is no index", source=shown(one.car))
        for root in store.roots:
            store.get(root)
    if depth in ("suspects", "deep"):
        report = verify.verify(Path(one.car), index=one.index_path, progress=progress)
        found.read_bytes = report.data_bytes
        if report.problems:
            raise report.problems[0]


def _is_whole(car: Path) -> bool:
    """Whether nothing stands where a table of references would: it was frozen."""
    with FileSource(car) as source:
        container = read_container(source)
        room = container.index_offset - container.data_end
        return room <= 0 or not source.peek(container.data_end, min(room, 64)).strip(b"\0")


def _check_references(one: Import, depth: str, found: Found, progress: Progress) -> None:
    folder = Path(one.folder)
    if depth == "look":
        _look(one, folder, found)
        return
    verdict = check_import(
        Path(one.car), folder, depth == "deep", progress, suspects=depth != "start", index=one.index_path
    )
    if verdict.damage:
        raise verdict.damage[0].error
    found.read_bytes, found.changed_blocks = verdict.read_bytes, verdict.changed_blocks
    stale = [file for file in verdict.troubled if file.status is not Status.OK]
    found.touched = len(verdict.troubled) - len(stale)
    found.count = len(stale)
    found.files = [_place(folder, file.target) for file in stale[:SHOWN_FILES]]
    found.signature = _signature(folder, [file.target for file in verdict.troubled])
    found.blocks = [
        {"path": _place(folder, Target(block.path)), "offset": block.offset, "size": block.size,
         "cid": str(block.cid)}
        for block in verdict.changed[:SHOWN_BLOCKS]
    ]  # fmt: skip


def _look(one: Import, folder: Path, found: Found) -> None:
    with FileSource(Path(one.car)) as source:
        table = ReferenceTable.find_in(source, read_container(source))
        if table is None:
            raise Malformed("its reference table went while it was looked at", source=shown(one.car))
        stale, files = [], iter(table.files)
        while some := list(islice(files, FILES_TOGETHER)):
            pairs = zip(some, statuses(folder, some), strict=True)
            stale += [target for target, status in pairs if status is not Status.OK]
    found.count = len(stale)
    found.files = [_place(folder, target) for target in stale[:SHOWN_FILES]]
    found.signature = _signature(folder, stale)


def _signature(folder: Path, files: list[Target]) -> str:
    """The same as long as none of the files looks other than now."""
    digest = hashlib.blake2b(digest_size=16)
    for target in files:
        digest.update(target.path + b"\0")
        try:
            look = (folder / os.fsdecode(target.path)).stat()
            digest.update(f"{look.st_size} {look.st_mtime_ns} {look.st_ino}\0".encode())
        except OSError as error:
            digest.update(f"{error.errno}\0".encode())
    return digest.hexdigest()


def _place(folder: Path, target: Target) -> str:
    return shown(str(folder / os.fsdecode(target.path)))


def shown(path: str) -> str:
    """The path as JSON can carry it."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _remade(params: Params, progress: Progress) -> Params:
    out, staging = Path(params["out"]), Path(params["staging"])
    made = staging / "made.car"
    done: Params = {}
    with ReferenceBlockstore.open(Path(params["car"]), Path(params["folder"])) as store:
        if params["what"] == "repair":
            repaired = repair(
                store, made, profile=PROFILES[params["profile"]], also=map(Path, params["also"]),
                deep=params["deep"], progress=progress,
            )  # fmt: skip
            done = {
                "relinked": repaired.relinked,
                "gone": repaired.gone_blocks,
                "refreshed": repaired.refreshed,
            }
        else:
            folder = Path(params["new_folder"])
            try:
                count = relink(
                    store, made, Path(params["old"]), Path(params["new"]), folder=folder, deep=params["deep"],
                    progress=progress,
                )  # fmt: skip
            except NotTheSame as error:
                raise ShardError(ErrorClass.CORRUPT, str(error)) from error
            except ValueError as error:
                if isinstance(error, CarError):
                    raise
                raise ShardError(ErrorClass.INVALID, str(error)) from error
            done = {"relinked": count, "gone": 0, "refreshed": 0}
    if made.exists():
        made.replace(out)
        durable.sync_folder(out.parent)
    return {"facts": msgspec.to_builtins(facts_of(out)), **done}
