"""`blocks/<cid>`: every block of the shard, verified when it is read.

Listed are the sections' CIDs in the order of the file, each block once (where it is filed several times, as
the index finds it).  Any CID with the multihash of a block here has a name here, whatever its version and
base: look-ups go by multihash. Others are ENOENT.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from carlib.cid import Cid
from carlib.errors import CarError
from fusefs.attributes import FILE, Attributes, of_folder
from fusefs.dag import DagFile, block_at
from fusefs.resident import NotResident
from fusefs.shard import Shard
from fusefs.tree import Entry, Known, Node
from fusefs.waits import Lane


class Blocks:
    """The registration."""

    name = b"blocks"

    def node(self, shard: Shard) -> Node | None:
        return None if shard.record.errored else BlocksFolder(shard)


class BlocksFolder:
    """All blocks of a shard."""

    lasting = settled = True
    version = b""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    @property
    def lane(self) -> Lane:
        return self._shard.names_lane

    def attributes(self) -> Attributes:
        return of_folder(self._shard.mtime_ns, 0)

    def facts(self) -> Mapping[str, str]:
        return {"state": self._shard.record.state, "mount": self._shard.record.url}

    def child(self, name: bytes) -> Node | None:
        cid = cid_of(name)
        if cid is None:
            return None
        with self._shard.use() as opened:
            return block_at(self._shard, opened, cid) if opened.blocks.has(cid) else None

    def child_nowait(self, name: bytes) -> Node | None:
        raise NotResident

    def children(self, known: Known) -> Iterator[Entry]:
        shard = self._shard
        with shard.use() as opened:
            # Of a damaged CAR only what is whole is a shard: its record says how far that goes.
            whole = shard.record.data_offset + shard.record.data_size
            for cid, location in opened.blocks.cids(end=whole):
                if not cid.is_identity:
                    found = opened.blocks.locate(cid)
                    if found is None or found.section_offset != location.section_offset:
                        continue
                node = DagFile(shard, cid, Attributes(FILE, location.size, shard.mtime_ns), whole=True)
                yield str(cid).encode(), node


def cid_of(name: bytes) -> Cid | None:
    """The CID that a file name is, in any base; None if it is none."""
    try:
        return Cid.parse(name.decode("ascii"))
    except (CarError, UnicodeDecodeError):
        return None
