"""A folder of the file system while it is packed: what is left of its listing, and a descriptor for its files.

Called by ``carlib.packer``.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from carlib.unixfs.links import Links


@dataclass(slots=True)
class Folder:
    """A directory being packed: what is left of its listing, last name first, and the links so far.

    An item of the listing is a name, a zero byte and the kind of file in digits, and sorts as the name does: 100,000
    tuples would take 6 MB more.
    """

    path: bytes
    name: bytes
    identity: tuple[int, int]
    attributes: dict[str, int]
    listing: list[bytes]
    links: Links = field(default_factory=Links)


class OpenedFolder:
    """A folder that is opened when its descriptor is first asked for."""

    __slots__ = ("_fd", "_path")

    def __init__(self, path: bytes) -> None:
        self._path = path
        self._fd = -1

    @property
    def fd(self) -> int:
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._fd

    def __enter__(self) -> OpenedFolder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def kind_of(entry: os.DirEntry[bytes]) -> int:
    """The file type of ``entry``, without a system call for all that is usual."""
    if entry.is_symlink():
        return stat.S_IFLNK
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)


def identity_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
