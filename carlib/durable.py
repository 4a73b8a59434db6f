"""Files that appear complete and durable, or not at all: temporary file, fsync, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

TEMPORARY_PREFIX: Final = ".carfs-tmp-"
"""Leftovers of a kill begin with this; whoever owns the folder may sweep them."""

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors that are about what is written, and not about what is read meanwhile."""


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A file to write and seek in that becomes ``path`` when the block ends, and is gone if the block raises.

    A file that stood there stays until the new one is complete and on disk; its permissions stay for good, and its
    owner where we may give files away.  Through a symlink the file that it leads to is replaced, and the symlink stays.
    Raises OSError, also where a device, FIFO or directory stands at ``path``: renaming would put a file in the place of
    ``/dev/null``.
    """
    found = _replaced(path)
    given, path = path, Path(os.path.realpath(path))
    fd, name = _temporary(path.parent, given)
    temporary = Path(name)
    try:
        os.close(fd)
        with temporary.open("w+b") as file:
            yield file
            file.flush()
            _give_attributes(file.fileno(), found, mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None and error.errno in _NO_ROOM:
            error.filename = str(given)
        raise
    sync_folder(path.parent)


def _replaced(path: Path) -> os.stat_result | None:
    """The regular file that is to be replaced, or None where there is none yet; OSError for anything else."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file, so it cannot be replaced", str(path))
    return found


def _temporary(folder: Path, successor_of: Path) -> tuple[int, str]:
    """A new file; errors name the one that it is to become, as nobody has heard of this one."""
    try:
        return tempfile.mkstemp(dir=folder, prefix=TEMPORARY_PREFIX)
    except OSError as error:
        error.filename = str(successor_of)
        raise


def _give_attributes(fd: int, replaced: os.stat_result | None, mode: int) -> None:
    if replaced is None:
        os.fchmod(fd, mode & ~_umask())
        return
    with contextlib.suppress(PermissionError):
        os.fchown(fd, replaced.st_uid, replaced.st_gid)
    os.fchmod(fd, replaced.st_mode & 0o777)


def begin_writing(file: BinaryIO, start: int, length: int) -> None:
    """Have the kernel write these bytes of ``file`` to its disk from now on, without waiting for it.

    The fsync at the end then finds little left to do (0.27 of 1.1 s a GiB).  Nothing is promised; not every file system
    knows how.
    """
    # Of pages that are dirty this begins the writing, as sync_file_range would, which Python has not; it does not drop
    # them.  Linux, mm/fadvise.c.
    file.flush()
    with contextlib.suppress(OSError):
        os.posix_fadvise(file.fileno(), start, length, os.POSIX_FADV_DONTNEED)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _umask() -> int:
    """The process's umask; reading it means setting it, so it is read from /proc where that is there."""
    with (
        contextlib.suppress(OSError, IndexError, ValueError),
        Path("/proc/self/status").open(encoding="ascii") as status,
    ):
        return int(next(line for line in status if line.startswith("Umask:")).split()[1], 8)
    return 0o022
