"""An import as a value: what the catalogue keeps of it, and the same as it goes over the wire."""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Literal

import msgspec

from agent.dagstore.failures import ErrorClass, Failure
from agent.dagstore.mounts import FileMount, Fingerprint
from agent.imports.transitions import ImportState, Life

OURS = "importmgr"  # Lotus' words for whose a CAR is
THEIRS = "user"
SHOWN_FILES = 100  # of those that are stale, or were skipped, in a record


class Kind(enum.StrEnum):
    """How the data are held."""

    REF = "ref"  # inner nodes in a CAR of ours, leaves in the user's files
    DENSE = "dense"  # all of it in a CAR of ours
    CAR = "car"  # a CAR that was there, used where it lies


class Source(enum.StrEnum):
    """Lotus' label `source`: what made the import."""

    UNKNOWN = "unknown"
    IMPORT = "import"  # from a path
    LOCAL = "import-local"  # from a stream


class Skipped(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """Something in the source that is not in the import."""

    path: str
    reason: str


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What making it found out; what a worker gives."""

    root: str
    roots: tuple[str, ...]
    size: int  # bytes of content
    blocks: int
    files: int  # that the references lead to
    version: int  # of the CAR
    data_offset: int
    data_size: int
    fingerprint: Fingerprint  # of the CAR
    index: str = ""  # file name beside ours; "": the CAR has its own
    skipped: tuple[Skipped, ...] = ()
    skipped_count: int = 0


class ImportRow(msgspec.Struct, frozen=True, gc=False):
    """What the catalogue keeps of an import. Paths may hold surrogates for bytes that are not UTF-8."""

    id: int
    name: str
    kind: Kind
    state: ImportState
    source: Source
    filename: str  # absolute path of the source; "": there is none
    car_path: str  # where it is, or will be
    car_owner: str
    folder: str  # that references are relative to; "" where there are none
    profile: str
    hidden: bool | None
    preserve: str
    created: str  # RFC 3339, UTC
    share: bool = False
    generation: int = 0
    attended: bool = False
    error: str = ""
    error_class: ErrorClass | None = None
    stale: tuple[str, ...] = ()
    stale_count: int = 0
    facts: Facts | None = None

    @property
    def owns_car(self) -> bool:
        return self.car_owner == OURS

    def with_life(self, life: Life) -> ImportRow:
        """The row of the import in that state."""
        failure = life.failure
        return msgspec.structs.replace(
            self,
            state=life.state,
            generation=life.generation,
            attended=life.attended,
            error="" if failure is None else failure.message,
            error_class=None if failure is None else failure.error_class,
            stale=life.stale,
            stale_count=life.stale_count,
        )


def life_of(row: ImportRow) -> Life:
    """The life of an import as it was persisted."""
    failure = None if row.error_class is None else Failure(row.error_class, row.error)
    return Life(
        row.state,
        row.generation,
        attended=row.attended,
        failure=failure,
        stale=row.stale,
        stale_count=row.stale_count,
    )


class ImportRecord(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """RECORD on the wire; what is not known (yet) is null. A path that is no UTF-8 is a `file:` URL."""

    id: int = msgspec.field(name="ID")
    name: str
    kind: Kind
    state: str
    root: str | None = None
    roots: tuple[str, ...] = ()
    source: Source
    file_path: str
    car_path: str = msgspec.field(name="CARPath")
    car_owner: str = msgspec.field(name="CAROwner")
    profile: str
    created: str
    size: int | None = None
    blocks: int | None = None
    files: int | None = None
    done: int = 0
    total: int = 0
    error: str
    error_class: str
    stale_files: tuple[str, ...]
    stale_count: int
    skipped: tuple[Skipped, ...] = ()
    skipped_count: int = 0
    index_path: str | None = None
    version: int | None = None
    data_offset: int | None = None
    data_size: int | None = None
    folder: str | None = None
    fingerprint: Fingerprint | None = None
    generation: int
    refs: int
    job: str = ""  # what is done with it: "verify", "repair", "relink", "freeze"


def record_of(
    row: ImportRow, life: Life, directory: Path, *, done: int = 0, total: int = 0, job: str = ""
) -> ImportRecord:
    """The wire form of an import."""
    failure, facts = life.failure, row.facts
    record = ImportRecord(
        id=row.id,
        name=row.name,
        kind=row.kind,
        state=life.state.value,
        source=row.source,
        file_path=shown_path(row.filename),
        car_path=shown_path(row.car_path),
        car_owner=row.car_owner,
        profile=row.profile,
        created=row.created,
        done=done,
        total=total,
        error="" if failure is None else failure.message,
        error_class="" if failure is None else failure.error_class.value,
        stale_files=life.stale,
        stale_count=life.stale_count,
        folder=shown_path(row.folder) if row.kind is Kind.REF else None,
        generation=life.generation,
        refs=life.refs,
        job=job,
    )
    if facts is None:
        return record
    return msgspec.structs.replace(
        record,
        root=facts.root,
        roots=facts.roots,
        size=facts.size,
        blocks=facts.blocks,
        files=facts.files,
        skipped=facts.skipped,
        skipped_count=facts.skipped_count,
        index_path=shown_path(str(directory / facts.index)) if facts.index else None,
        version=facts.version,
        data_offset=facts.data_offset,
        data_size=facts.data_size,
        fingerprint=facts.fingerprint,
    )


def shown_path(path: str) -> str:
    """The path as JSON can carry it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return FileMount.at(os.fsencode(path)).url
    return path


def given_path(text: str) -> Path:
    """The absolute path that a caller has given, as such or as a `file:` URL; raises ShardError(invalid)."""
    if text.startswith("file:"):
        return FileMount.parse(text).path
    return FileMount.at(os.fsencode(text)).path


Progress = tuple[int, int]
Wanted = Literal["auto", "ref", "dense", "car"]
