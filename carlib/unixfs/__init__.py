"""UnixFS: files, directories and symlinks made of dag-pb and raw blocks.

Reading goes from a CID and a :class:`~carlib.blockstore.Blocks` to :func:`stat`, :class:`File` and :class:`Directory`.
"""

from carlib.unixfs.directory import Directory
from carlib.unixfs.entry import Entry
from carlib.unixfs.file import File, Leaf, leaf_payload
from carlib.unixfs.path import NoSuchEntry, resolve
from carlib.unixfs.stat import Kind, Stat, stat

__all__ = [
    "Directory",
    "Entry",
    "File",
    "Kind",
    "Leaf",
    "NoSuchEntry",
    "Stat",
    "leaf_payload",
    "resolve",
    "stat",
]
