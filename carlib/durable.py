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


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A file to write and seek in that becomes ``path`` when the block ends, and is gone if the block raises.

    Raises OSError, also where a device, FIFO or directory stands at ``path``: renaming would put a file in the place of
    ``/dev/null``.  A file that stood there stays until the new one is complete and on disk.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(kind := path.lstat().st_mode) and not stat.S_ISLNK(kind):
            raise OSError(errno.EINVAL, "not a regular file, so it cannot be replaced", str(path))
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY_PREFIX)
    temporary = Path(name)
    try:
        os.close(fd)
        with temporary.open("w+b") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode & ~_umask())
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


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
