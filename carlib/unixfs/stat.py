"""What a CID is, seen as a file system object, from one block at most."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from carlib.blockstore import Blocks
from carlib.cid import DAG_PB, RAW, Cid
from carlib.unixfs import node

PERMISSION_BITS = 0o7777


class Kind(Enum):
    """What an object is; OTHER is no UnixFS (dag-cbor, dag-pb without Data …) and shown as its block's bytes."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Stat:
    """An object's attributes, None where nothing is stored; a file's size is what its root states, a directory's is 0.

    ``mode`` has the lower 12 bits; ``mtime_ns`` may be negative, and beyond 64 bits; ``target`` may hold any bytes.
    """

    kind: Kind
    size: int
    mode: int | None = None
    mtime_ns: int | None = None
    target: bytes | None = None
    sharded: bool = False


def stat(blocks: Blocks, cid: Cid) -> Stat:
    """The attributes of ``cid``; reads its block if it is dag-pb, else asks for its size."""
    codec = cid.codec
    if codec != DAG_PB:
        return Stat(Kind.FILE if codec == RAW else Kind.OTHER, node.size_of(blocks, cid))
    block = node.fetch(blocks, cid)
    found = node.data_of(block)
    if found is None:
        return Stat(Kind.OTHER, len(block))
    mode = None if found.mode is None else found.mode & PERMISSION_BITS
    if found.is_file:
        return Stat(Kind.FILE, found.size, mode, found.mtime_ns)
    if found.type is node.DataType.SYMLINK:
        target = b"" if found.data is None else bytes(found.data)
        return Stat(Kind.SYMLINK, len(target), mode, found.mtime_ns, target)
    return Stat(Kind.DIRECTORY, 0, mode, found.mtime_ns, sharded=found.type is node.DataType.HAMT_SHARD)
