"""What `stat` says about a node: made when the node is made, so that answering it never waits.

Kinds and permission bits follow UnixFS 1.5 where it has them, else 0444 for files, 0555 for directories
(Kubo's mount shows the same).  Owner and times that UnixFS does not have come from the mount
(`operations.py`) and from the CAR file.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import Final

from carlib import unixfs

FILE: Final = stat.S_IFREG | 0o444
FOLDER: Final = stat.S_IFDIR | 0o555
LINK: Final = stat.S_IFLNK | 0o777

BLOCK_SIZE: Final = 128 * 1024
"""`st_blksize`: what `cp` and `cat` read at once; the kernel asks us in its own, larger pieces."""

_MTIME_LIMIT: Final = (1 << 63) - 1
"""UnixFS can hold times that `struct stat` cannot; they are shown as the nearest that it can (the year 2262
or 1677).
"""

_TYPES: Final = {
    unixfs.Kind.FILE: stat.S_IFREG,
    unixfs.Kind.OTHER: stat.S_IFREG,
    unixfs.Kind.DIRECTORY: stat.S_IFDIR,
    unixfs.Kind.SYMLINK: stat.S_IFLNK,
}
_DEFAULTS: Final = {stat.S_IFREG: 0o444, stat.S_IFDIR: 0o555, stat.S_IFLNK: 0o777}


@dataclass(frozen=True, slots=True)
class Attributes:
    """The part of `struct stat` that depends on the node; `mode` holds the file type too."""

    mode: int
    size: int
    mtime_ns: int
    links: int = 1
    uid: int | None = None
    gid: int | None = None
    """None: of the process that mounted."""

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def sectors(self) -> int:
        """`st_blocks`: 512-byte units, so that `du` shows what the content would take."""
        return -(-self.size // 512)


def of_file(size: int, mtime_ns: int) -> Attributes:
    """A file of ours, read-only."""
    return Attributes(FILE, size, mtime_ns)


def of_folder(mtime_ns: int, folders_inside: int) -> Attributes:
    """A directory of ours whose subdirectories are counted, as on ext4."""
    return Attributes(FOLDER, 0, mtime_ns, 2 + folders_inside)


def of_link(target: bytes, mtime_ns: int) -> Attributes:
    """A symlink of ours."""
    return Attributes(LINK, len(target), mtime_ns)


def of_unixfs(found: unixfs.Stat, default_mtime_ns: int) -> Attributes:
    """A node of a DAG.  Directories have one link: counting subdirectories would read every child (as btrfs does)."""
    kind = _TYPES[found.kind]
    permissions = _DEFAULTS[kind] if found.mode is None or kind == stat.S_IFLNK else found.mode & 0o7777
    size = len(found.target or b"") if kind == stat.S_IFLNK else 0 if kind == stat.S_IFDIR else found.size
    mtime_ns = (
        default_mtime_ns if found.mtime_ns is None else max(-_MTIME_LIMIT, min(found.mtime_ns, _MTIME_LIMIT))
    )
    return Attributes(kind | permissions, size, mtime_ns)
