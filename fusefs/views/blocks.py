"""`blocks/<cid>`: every block of the shard, verified when it is read.

Listed are the sections' CIDs in the order of the file, each block where it is filed first.  Any CID with the
multihash of a block here has a name here, whatever its version and base: look-ups go by multihash. Others are
ENOENT.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.errors import CarError
from fusefs.attributes import FILE, Attributes, of_folder
from fusefs.dag import DagFile, block_at
from fusefs.resident import NotResident
from fusefs.shard import Shard
from fusefs.tree import Entry, Known, Node
from fusefs.waits import Lane

_IDENTITIES = 65_536
"""Of more different identity CIDs, a repeated one may be listed twice."""


class Blocks:
    """The registration."""

    name = b"blocks"

    def node(self, shard: Shard) -> Node | None:
        return BlocksFolder(shard) if shard.record.shows_content else None


class BlocksFolder:
    """All blocks of a shard."""

    lasting = True
    version = b""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    @property
    def settled(self) -> bool:
        """Whether names that are not here will not be."""
        return not self._shard.record.growing

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
            first = FirstOnly(opened.blocks, shard.record.blocks)
            for cid, location in opened.blocks.cids(end=whole):
                if not first.is_at(cid, location.section_offset):
                    continue
                node = DagFile(shard, cid, Attributes(FILE, location.size, shard.mtime_ns), whole=True)
                yield str(cid).encode(), node


class FirstOnly:
    """Tells a block's first section from later ones, in one pass over the sections.

    Most blocks are filed once, which a few bits each tell for certain; where those leave it open, the index is asked
    (50 µs, measured, where the bits cost 1).
    """

    def __init__(self, blocks: ReadOnlyBlockstore, count: int) -> None:
        self._blocks = blocks
        size = 1 << max(10, min(count.bit_length() + 1, 24))
        self._seen = bytearray(size)  # 16 to 32 bits a block, at most 16 MiB
        self._mask = size * 8 - 1
        self._identities: set[bytes] = set()

    def is_at(self, cid: Cid, offset: int) -> bool:
        """Whether the section at `offset` is the first with the block of `cid`."""
        if cid.is_identity:
            new = cid.raw not in self._identities
            if len(self._identities) < _IDENTITIES:
                self._identities.add(cid.raw)
            return new
        bit = int.from_bytes(cid.raw[-8:], "little") & self._mask
        place, flag = bit >> 3, 1 << (bit & 7)
        if not self._seen[place] & flag:
            self._seen[place] |= flag
            return True
        base = self._blocks.container.data_offset
        entries = self._blocks.index.find(cid.hash_code, cid.digest)
        return offset == base + min((found for _, found in entries), default=offset - base)


def cid_of(name: bytes) -> Cid | None:
    """The CID that a file name is, in any base; None if it is none."""
    try:
        return Cid.parse(name.decode("ascii"))
    except (CarError, UnicodeDecodeError):
        return None
