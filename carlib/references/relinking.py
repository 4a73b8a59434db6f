"""An import whose source was moved: the same blocks, below another path."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from carlib.errors import CarError
from carlib.references.reading import broken
from carlib.references.records import Records
from carlib.references.rewriting import rewrite
from carlib.references.store import ReferenceBlockstore
from carlib.references.target import BrokenReference, Status, Target, Targets

Progress = Callable[[int, int], None]


class NotTheSame(CarError):
    """What lies at the new path is not what was imported; ``files`` says of which, from the new folder on."""

    def __init__(self, files: Sequence[tuple[bytes, Status]]) -> None:
        first, status = files[0]
        more = f" (and {len(files) - 1} more)" if len(files) > 1 else ""
        super().__init__(f"is not what was imported: {status.name}{more}", source=os.fsdecode(first))
        self.files = tuple(files)


def relink(
    store: ReferenceBlockstore,
    out: Path,
    old: Path,
    new: Path,
    *,
    folder: Path | None = None,
    deep: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write ``store`` to ``out``, which may be its own path, with all that lay at or below ``old`` now at ``new``; how
    many files.

    ``folder`` is what references are below from now on, that of the store if None.  A file of another length is
    refused; one that has the recorded length and mtime is taken as the same, any other is read, and to ``deep`` all
    are.  Raises NotTheSame, and changes nothing, if any is not the same; ValueError where nothing lies below ``old``
    or something would lie outside of ``folder``; CarError, OSError.
    """
    records = Records.of(store)
    base = store.folder if folder is None else Path(os.path.realpath(folder))
    moved = _moved(records.files, store.folder, base, old, new)
    with Targets(base) as targets:
        files, unsure, refused = _looked_at(records.files, moved, targets, deep)
        there = Records(files, records.rows, records.multihash)
        for number in [] if refused else broken(there, targets, there.within(unsure), progress):
            refused.setdefault(int(there.rows["file"][number]), Status.CHANGED)
        for number in unsure:
            if number not in refused and targets.status(files[number]) is not Status.OK:
                refused[number] = Status.CHANGED
    if refused:
        raise NotTheSame([(files[number].path, status) for number, status in sorted(refused.items())])
    rewrite(store, records, files, out)
    return len(moved)


def _moved(files: Sequence[Target], base: Path, new_base: Path, old: Path, new: Path) -> dict[int, Target]:
    """The files at or below ``old``, by their numbers, as they are to be found from ``new_base`` on."""
    places = {os.path.abspath(os.fsencode(old)), os.path.realpath(os.fsencode(old))}  # noqa: PTH100  bytes
    real_new, inside = os.path.realpath(os.fsencode(new)), os.path.join(os.fsencode(new_base), b"")  # noqa: PTH118
    moved = {}
    for number, target in enumerate(files):
        path = os.path.join(os.fsencode(base), target.path)  # noqa: PTH118
        place = next((one for one in places if path == one or path.startswith(one.rstrip(b"/") + b"/")), None)
        if place is None and base != new_base:
            after = path
        elif place is None:
            continue
        else:
            after = real_new + path[len(place.rstrip(b"/")) :]
        if not after.startswith(inside):
            raise ValueError(f"{os.fsdecode(after)} is not below {new_base}")
        moved[number] = Target(after[len(inside) :], target.size, target.mtime_ns, target.inode)
    if not moved:
        raise ValueError(f"nothing of the import lies below {old}")
    return moved


def _looked_at(
    before: Sequence[Target], moved: dict[int, Target], targets: Targets, deep: bool
) -> tuple[list[Target], list[int], dict[int, Status]]:
    """All files with the fingerprints of those that moved, which of these are to be read, and which are refused."""
    files, unsure, refused = list(before), [], {}
    for number, target in moved.items():
        try:
            found = targets.look(target)
        except BrokenReference as error:
            files[number], refused[number] = target, error.status
            continue
        files[number] = Target.of(target.path, found)
        recorded = bool(target.mtime_ns)
        if recorded and target.size != found.st_size:
            refused[number] = Status.CHANGED
        elif deep or not recorded or target.mtime_ns != found.st_mtime_ns:
            unsure.append(number)
    return files, unsure, refused
