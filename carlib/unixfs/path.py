"""From a root and names to the CID they lead to."""

from __future__ import annotations

from collections.abc import Iterable

from carlib.blockstore import Blocks
from carlib.cid import Cid
from carlib.errors import CarError
from carlib.unixfs.directory import Directory


class NoSuchEntry(CarError):
    """A directory has no entry of that name; its listing is complete as far as the name's place goes."""

    def __init__(self, name: bytes, directory: Cid) -> None:
        shown = name.decode("utf-8", "backslashreplace")
        super().__init__(f"no entry {shown!r} in directory {directory}")
        self.name = name
        self.directory = directory


def resolve(blocks: Blocks, root: Cid, path: Iterable[bytes]) -> Cid:
    """The CID at ``path`` (stored names, no symlinks followed) below ``root``.

    Raises NoSuchEntry, NotUnixFs where a name follows something that is no directory, and what the store raises.
    """
    cid = root
    for name in path:
        entry = Directory.open(blocks, cid).lookup(name)
        if entry is None:
            raise NoSuchEntry(name, cid)
        cid = entry.cid
    return cid
