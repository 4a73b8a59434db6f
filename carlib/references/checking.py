"""Is an import still good: the ref-CAR itself, part by part, and the user's files that it leads into.

Looks at files cost little and tell which may have changed; reading tells which blocks of them did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from carlib import index_check
from carlib.checked import CheckedBlocks
from carlib.cid import Cid
from carlib.container import Container, read_container
from carlib.errors import BlockNotFound, CarError, Malformed
from carlib.index import Index
from carlib.references.fingerprints import statuses
from carlib.references.reading import broken
from carlib.references.records import Records, leaves
from carlib.references.store import ReferenceBlockstore
from carlib.references.table import ReferenceTable
from carlib.references.target import BrokenReference, Status, Target, Targets
from carlib.source import ByteSource, FileSource

MAX_CHANGED: Final = 10_000
"""Changed blocks that are listed; further ones are counted."""
MAX_DAMAGE: Final = 100

Progress = Callable[[int, int], None]
"""Takes bytes done and bytes in all."""


class Part(Enum):
    """What of a ref-CAR can be damaged."""

    HEADER = "header"
    INDEX = "index"
    TABLE = "reference table"
    BLOCKS = "blocks"


@dataclass(frozen=True, slots=True)
class Damage:
    """Something is wrong with the ref-CAR itself."""

    part: Part
    error: CarError


@dataclass(frozen=True, slots=True)
class ChangedBlock:
    """Bytes of a user's file that are no longer the block; ``path`` from the folder on."""

    path: bytes
    offset: int
    size: int
    cid: Cid


@dataclass(frozen=True, slots=True)
class FileCheck:
    """A file that is not, or does not look, as it was."""

    target: Target
    status: Status
    """OK: only touched, as far as can be seen: it is as long as it was, and every block is where it was."""
    changed_blocks: int = 0
    changed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Check:
    """The verdict.  ``troubled`` has each file with a status of its own, and those that were only touched."""

    damage: tuple[Damage, ...]
    files: int
    troubled: tuple[FileCheck, ...] = ()
    changed: tuple[ChangedBlock, ...] = ()
    changed_blocks: int = 0
    read_bytes: int = 0

    @property
    def is_stale(self) -> bool:
        """Whether files of the user are not, or do not look, as they were imported."""
        return any(file.status is not Status.OK for file in self.troubled)

    @property
    def is_good(self) -> bool:
        return not self.damage and not self.is_stale


def check_import(
    path: Path,
    folder: Path,
    deep: bool = False,
    progress: Progress | None = None,
    *,
    suspects: bool = True,
    index: Path | None = None,
) -> Check:
    """Like :func:`check`, of the ref-CAR at ``path``, which may be damaged; raises OSError where it cannot be read."""
    damage = _frame_damage(path)
    if damage:
        return Check(damage, 0)
    try:
        store = ReferenceBlockstore.open(path, folder, index=index)
    except CarError as error:
        return Check((Damage(Part.TABLE, error),), 0)
    with store:
        return check(store, deep, progress, suspects=suspects)


def check(
    store: ReferenceBlockstore, deep: bool = False, progress: Progress | None = None, *, suspects: bool = True
) -> Check:
    """How ``store`` and the files that it refers to are.

    Every file is looked at; those that do not look as they did are read, unless ``suspects`` is False (at start).
    ``deep``: all of them are, and so is the CAR, with its index against its blocks and its links.  CarErrors end up in
    the verdict, OSError is raised.
    """
    store.targets.close()  # it may have files open that were replaced, or are gone
    with Targets(store.folder) as targets:
        return _check(store, targets, deep, suspects, progress)


def _check(
    store: ReferenceBlockstore, targets: Targets, deep: bool, suspects: bool, progress: Progress | None
) -> Check:
    damage = list(_damage(store, deep))
    try:
        records = Records.of(store)
    except CarError as error:
        if not damage:
            damage.append(Damage(Part.TABLE, error))
        return Check(tuple(damage), 0)
    files = records.files
    found = list(statuses(store.folder, files))
    looks_bad = [number for number, status in enumerate(found) if status is not Status.OK]
    look_at: list[int] = list(range(len(files))) if deep else looks_bad if suspects else []
    read = [number for number in look_at if found[number] in (Status.OK, Status.CHANGED)]
    numbers = records.within(read)
    changed: list[ChangedBlock] = []
    counts: dict[int, tuple[int, int]] = {}
    for number in _wrong(targets, records, look_at, read, progress):
        reference = records.reference(number)
        file = int(records.rows["file"][number])
        blocks, size = counts.get(file, (0, 0))
        counts[file] = (blocks + 1, size + reference.size)
        if len(changed) < MAX_CHANGED:
            changed.append(
                ChangedBlock(reference.target.path, reference.offset, reference.size, records.cid(number))
            )
    troubled = []
    for file in sorted({*looks_bad, *counts}):
        status = found[file]
        if file in counts and status is Status.OK:
            status = Status.CHANGED
        elif file in read and file not in counts and not _has_other_size(files[file], targets):
            status = Status.OK
        troubled.append(FileCheck(files[file], status, *counts.get(file, (0, 0))))
    return Check(
        tuple(damage),
        len(files),
        tuple(troubled),
        tuple(changed),
        sum(blocks for blocks, _ in counts.values()),
        int(records.rows["size"][numbers].sum()),
    )


def _wrong(
    targets: Targets,
    records: Records,
    files: list[int],
    readable: list[int],
    progress: Progress | None,
) -> Iterator[int]:
    """The records in ``files`` that do not hold: all of a file that is not ``readable``."""
    gone = sorted(set(files) - set(readable))
    yield from records.within(gone).tolist()
    yield from broken(records, targets, records.within(readable), progress)


def _has_other_size(target: Target, targets: Targets) -> bool:
    try:
        return bool(target.mtime_ns) and targets.look(target).st_size != target.size
    except BrokenReference:
        return True


def _frame_damage(path: Path) -> tuple[Damage, ...]:
    with FileSource(path) as source:
        try:
            container = read_container(source)
        except CarError as error:
            return (Damage(Part.HEADER, error),)
        return tuple(_index_damage(source, container))


def _index_damage(source: ByteSource, container: Container) -> Iterator[Damage]:
    if container.version == 2:
        try:
            if not container.index_offset:
                raise Malformed("there is no index", source=source.name)
            Index.open(source, container.index_offset)
        except CarError as error:
            yield Damage(Part.INDEX, error)


def _damage(store: ReferenceBlockstore, deep: bool) -> Iterator[Damage]:
    source, container = store.store.source, store.store.container
    yield from _index_damage(source, container)
    table = store.references
    try:
        if isinstance(table, ReferenceTable):
            table.check()
        elif _has_something_between(source, container):
            raise Malformed(
                "there is no reference table where one should be",
                source=source.name,
                offset=container.data_end,
            )
        for root in store.roots:
            if not store.has(root):
                raise BlockNotFound(root, source=source.name)
    except CarError as error:
        yield Damage(Part.BLOCKS if isinstance(error, BlockNotFound) else Part.TABLE, error)
    if deep and isinstance(table, ReferenceTable):
        for count, damage in enumerate(_deep_damage(store)):
            if count == MAX_DAMAGE:
                return
            yield damage


def _has_something_between(source: ByteSource, container: Container) -> bool:
    room = container.index_offset - container.data_end
    return room > 0 and bool(source.peek(container.data_end, min(room, 64)).strip(b"\0"))


def _deep_damage(store: ReferenceBlockstore) -> Iterator[Damage]:
    source, container = store.store.source, store.store.container
    try:
        for block in CheckedBlocks(source, container):
            if block.problem is not None:
                yield Damage(Part.BLOCKS, block.problem)
        for problem in index_check.problems(
            Path(source.name), Index.open(source, container.index_offset), source.name
        ):
            yield Damage(Part.INDEX, problem)
        for cid in leaves(store):
            if store.references.find(cid) is None:
                yield Damage(Part.TABLE, BlockNotFound(cid, source=source.name))
    except CarError as error:
        yield Damage(Part.BLOCKS, error)
