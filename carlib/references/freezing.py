"""An import made independent of the user's files: by clones that share their blocks on disk, or else by a copy.

A clone (FICLONE: btrfs, XFS, bcachefs) takes no room and no time until one of both is written to, and then keeps what
it had.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carlib.ahead import ahead
from carlib.durable import TEMPORARY_PREFIX, sync_folder
from carlib.references.dense import dense
from carlib.references.reading import broken
from carlib.references.records import Records
from carlib.references.rewriting import rewrite, without
from carlib.references.store import ReferenceBlockstore
from carlib.references.table import VOID
from carlib.references.target import BrokenReference, Status, Target, Targets

FICLONE: Final = 0x40049409
"""_IOW(0x94, 9, int), linux/fs.h."""
_CANNOT_CLONE: Final = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EPERM, errno.ETXTBSY}
)
_A_FOLDER: Final = 1000
"""Clones in one folder."""
_THREADS: Final = 8
"""Each waits for its fsync."""

Clone = Callable[[int, int], None]
"""Makes the file of the second descriptor, which is empty, a clone of that of the first; raises OSError."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Frozen:
    """How it was done: ``clones`` files were cloned, or none, and why (``reason``), and all was copied."""

    clones: int
    blocks: int
    reason: str = ""


def reflink(source: int, target: int) -> None:
    """:data:`Clone` by the file system."""
    fcntl.ioctl(target, FICLONE, source)


def freeze(
    store: ReferenceBlockstore,
    out: Path,
    clones: Path,
    *,
    folder: Path = Path("/"),
    clone: Clone = reflink,
    progress: Progress | None = None,
) -> Frozen:
    """Write ``store`` to ``out``, which may be its own path, so that it needs the user's files no more.

    Clones go to ``clones``, which must not exist and lie below ``folder``; ``out`` refers to them from there.  Where
    the file system cannot clone, ``out`` is a CAR with all data.  Every block is verified.  Raises BrokenReference
    where one is gone, CarError, OSError; then there is neither ``out`` nor ``clones``.  A kill in between may leave
    ``clones``, to which nothing refers, or a folder with :data:`~carlib.durable.TEMPORARY_PREFIX` beside it.
    """
    base = os.path.join(os.path.realpath(os.fsencode(folder)), b"")  # noqa: PTH118  bytes
    place = os.path.join(os.path.realpath(os.fsencode(clones.parent)), os.fsencode(clones.name))  # noqa: PTH118
    if not place.startswith(base):
        raise ValueError(f"{clones} is not below {folder}")
    if clones.exists():
        raise FileExistsError(errno.EEXIST, "exists already", str(clones))
    records = Records.of(store)
    total = int(records.rows["size"].sum())
    unused = {number for number, size in enumerate(records.bytes_of_files().tolist()) if not size}
    sources = without(records, records.files, unused)
    there = Path(tempfile.mkdtemp(dir=clones.parent, prefix=TEMPORARY_PREFIX))
    try:
        try:
            with Targets(store.folder) as targets:
                files = _cloned(targets, sources, there, clone)
        except OSError as error:
            if error.errno not in _CANNOT_CLONE:
                raise
            reason = f"the file system cannot clone: {error.strerror}"
            tell = None if progress is None else lambda done: progress(done, max(done, total))
            return Frozen(0, dense(store, out, progress=tell), reason)
        _verify(there, Records(files, records.rows, records.multihash), sources, progress)
        there.replace(clones)
    finally:
        shutil.rmtree(there, ignore_errors=True)
    try:
        sync_folder(clones.parent)
        prefix = place[len(base) :] + b"/"
        rewrite(
            store,
            records,
            [Target(prefix + file.path, file.size, file.mtime_ns, file.inode) for file in files],
            out,
        )
    except BaseException:
        shutil.rmtree(clones, ignore_errors=True)
        raise
    return Frozen(len(files), int((records.rows["file"] != VOID).sum()))


def _cloned(targets: Targets, sources: list[Target], there: Path, clone: Clone) -> list[Target]:
    """A clone of each source below ``there``, named by its number, on disk; raises OSError."""

    def one(item: tuple[int, Target]) -> Target:
        number, source = item
        name = b"%05d/%03d" % divmod(number, _A_FOLDER)
        with targets.opened(source) as fd:
            made = os.open(
                os.path.join(os.fsencode(there), name),  # noqa: PTH118  bytes
                os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
                0o444,
            )
            try:
                clone(fd, made)
                os.fsync(made)
                return Target.of(name, os.fstat(made))
            finally:
                os.close(made)

    for number in range(0, len(sources), _A_FOLDER):
        (there / f"{number // _A_FOLDER:05}").mkdir()
    done = list(ahead(one, enumerate(sources), threads=_THREADS))
    for part in there.iterdir():
        sync_folder(part)
    sync_folder(there)
    return done


def _verify(there: Path, records: Records, sources: list[Target], progress: Progress | None) -> None:
    """BrokenReference, of the source, at the first block that is not in its clone."""
    with Targets(there) as targets:
        for number in broken(records, targets, records.valid(), progress):
            raise BrokenReference(
                Status.CHANGED,
                os.fsdecode(sources[int(records.rows["file"][number])].path),
                f"what lies there is no longer {records.cid(number)}",
                offset=records.reference(number).offset,
            )
