"""An import after its source was edited: blocks that are still in the files somewhere are found and linked anew.

Looked for where they were, where they are if something was put in or taken out before them, and among the pieces into
which the profile of the import cuts the files as they are now.  Nothing that is there gets lost: a reference is
replaced by one that was just verified, or kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from carlib.ahead import ahead
from carlib.cid import RAW, Cid
from carlib.multihash import hashing_threads
from carlib.references.checking import MAX_CHANGED, ChangedBlock
from carlib.references.fingerprints import statuses
from carlib.references.reading import broken, holds
from carlib.references.records import Numbers, Records
from carlib.references.rewriting import rewrite, without
from carlib.references.store import ReferenceBlockstore
from carlib.references.target import BrokenReference, Reference, Status, Target, Targets
from carlib.unixfs import chunking
from carlib.unixfs.profile import CARFS, Profile

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Repair:
    """What came of it.  ``gone`` are blocks that are nowhere, of which ``gone_blocks`` there are."""

    relinked: int
    gone: tuple[ChangedBlock, ...]
    gone_blocks: int
    refreshed: int
    """Files of which all that is referenced is there, and which are known as they are from now on."""
    written: bool
    """Whether there was anything to write; else ``out`` is as it was."""


def repair(
    store: ReferenceBlockstore,
    out: Path,
    *,
    profile: Profile = CARFS,
    also: Iterable[Path] = (),
    deep: bool = False,
    progress: Progress | None = None,
) -> Repair:
    """Write ``store`` to ``out``, which may be its own path, with what was lost and is found linked anew.

    Files that look as they did are believed, unless ``deep``.  ``also`` are further files below the folder in which
    blocks may be, as after a rename.  A file with a block that is gone stays known as it was, so the import stays
    stale.  Raises CarError, OSError.
    """
    with Targets(store.folder) as targets:
        return _Repairing(store, targets, profile).run(out, also, deep, progress)


class _Repairing:
    def __init__(self, store: ReferenceBlockstore, targets: Targets, profile: Profile) -> None:
        self._store = store
        self._targets = targets
        self._profile = profile
        self._records = Records.of(store)
        self._files = list(self._records.files)
        self._wanted: dict[bytes, int] = {}
        self._sizes: set[int] = set()
        self._placed: dict[int, tuple[int, int]] = {}

    def run(self, out: Path, also: Iterable[Path], deep: bool, progress: Progress | None) -> Repair:
        records = self._records
        found = list(statuses(self._store.folder, records.files))
        suspects = [number for number, status in enumerate(found) if deep or status is not Status.OK]
        before = {number: look for number in suspects if (look := self._look(self._files[number]))}
        lost = self._lost(suspects, before, progress)
        self._wanted = {records.cid(number).multihash: number for number in lost}
        self._sizes = {int(records.rows["size"][number]) for number in lost}
        self._find_shifted(lost, before)
        for number in [*before, *self._dense_elsewhere(found), *self._further(also)]:
            if self._wanted:
                self._find_in(number)
        still = set(self._wanted.values())
        for number, (file, offset) in self._placed.items():
            records.rows[number]["file"], records.rows[number]["offset"] = file, offset
        gone = [self._changed(number) for number in records.ordered(_array(still))[:MAX_CHANGED].tolist()]
        refreshed = self._refresh(before, still)
        files, dropped = self._drop_unused(found)
        written = bool(self._placed or refreshed or dropped)
        if written:
            rewrite(self._store, records, files, out)
        return Repair(len(self._placed), tuple(gone), len(still), refreshed, written)

    def _look(self, target: Target) -> os.stat_result | None:
        try:
            return self._targets.look(target)
        except BrokenReference:
            return None

    def _lost(self, suspects: Sequence[int], readable: Iterable[int], progress: Progress | None) -> list[int]:
        records, can_be_read = self._records, sorted(readable)
        lost: list[int] = records.within(sorted(set(suspects) - set(can_be_read))).tolist()
        lost += broken(records, self._targets, records.within(can_be_read), progress)
        return lost

    def _find_shifted(self, lost: Sequence[int], looks: dict[int, os.stat_result]) -> None:
        """Bytes were put in or taken out at one place: all behind it moved by as many."""
        for number in lost:
            reference, file = self._records.reference(number), int(self._records.rows["file"][number])
            look = looks.get(file)
            offset = reference.offset + (look.st_size - reference.target.size if look else 0)
            if look is None or offset < 0 or offset == reference.offset:
                continue
            if holds(
                self._records, self._targets, number, Reference(reference.target, offset, reference.size)
            ):
                self._place(number, file, offset)

    def _dense_elsewhere(self, found: Sequence[Status]) -> list[int]:
        """Files of which not all is referenced, since it was in another one too."""
        referenced = self._records.bytes_of_files()
        return [
            number
            for number, target in enumerate(self._records.files)
            if found[number] is Status.OK and int(referenced[number]) < target.size
        ]

    def _further(self, also: Iterable[Path]) -> Iterator[int]:
        """The numbers of these files, which are listed when something is found in them."""
        base = os.path.join(os.fsencode(self._store.folder), b"")  # noqa: PTH118  bytes
        known = {target.path for target in self._records.files}
        for path in also:
            real = os.path.realpath(os.fsencode(path))
            if real.startswith(base) and real[len(base) :] not in known:
                look = self._look(Target(real[len(base) :]))
                if look is not None:
                    self._files.append(Target.of(real[len(base) :], look))
                    yield len(self._files) - 1

    def _find_in(self, file: int) -> None:
        """Blocks among the pieces of the file as it is now; nothing of one that changes meanwhile."""
        target = self._files[file]
        before = self._look(target)
        found = list(self._pieces(target)) if before is not None else []
        after = self._look(target)
        if before is None or after is None or not Target.of(target.path, before).matches(after):
            return
        for multihash, offset in found:
            if multihash in self._wanted:
                self._place(self._wanted[multihash], file, offset)

    def _pieces(self, target: Target) -> Iterator[tuple[bytes, int]]:
        """Those of the file's pieces that are wanted, and their offsets."""
        profile = self._profile

        def named(piece: tuple[bytes, int]) -> tuple[bytes, int]:
            return Cid.of(piece[0], RAW, profile.hash_code).multihash, piece[1]

        try:
            for multihash, offset in ahead(named, self._cut(target), threads=hashing_threads()):
                if multihash in self._wanted:
                    yield multihash, offset
        except BrokenReference:
            return

    def _cut(self, target: Target) -> Iterator[tuple[bytes, int]]:
        """Pieces of the length of something wanted."""
        profile, position = self._profile, 0

        def read(size: int) -> bytes:
            nonlocal position
            data = self._targets.peek(target, position, size)
            position += len(data)
            return data

        if profile.chunker is None:
            chunks = chunking.fixed(read, profile.chunk_size)
        else:
            chunks = chunking.by_content(read, profile.chunker)
        offset = 0
        for chunk in chunks:
            if len(chunk) in self._sizes:
                yield chunk, offset
            offset += len(chunk)

    def _place(self, number: int, file: int, offset: int) -> None:
        self._placed[number] = (file, offset)
        self._wanted.pop(self._records.cid(number).multihash, None)

    def _changed(self, number: int) -> ChangedBlock:
        reference = self._records.reference(number)
        return ChangedBlock(
            reference.target.path, reference.offset, reference.size, self._records.cid(number)
        )

    def _refresh(self, before: dict[int, os.stat_result], still: set[int]) -> int:
        """Take the present fingerprint of all files of which nothing is gone; how many differ."""
        wrong = {int(self._records.rows["file"][number]) for number in still}
        count = 0
        for number, look in before.items():
            target = Target.of(self._files[number].path, look)
            if (
                number not in wrong
                and target != self._files[number]
                and self._targets.status(target) is Status.OK
            ):
                self._files[number] = target
                count += 1
        return count

    def _drop_unused(self, found: Sequence[Status]) -> tuple[list[Target], int]:
        """The files without those that are gone, or were only looked into, and that nothing refers to."""
        listed = Records(self._files, self._records.rows, lambda _number: b"")
        used = listed.bytes_of_files()
        known = len(found)
        drop = {
            number
            for number in range(len(self._files))
            if not int(used[number]) and (number >= known or found[number] in (Status.NO_FILE, Status.OTHER))
        }
        files = without(self._records, self._files, drop)
        return files, sum(number < known for number in drop)


def _array(numbers: set[int]) -> Numbers:
    return np.array(sorted(numbers), np.int64)
