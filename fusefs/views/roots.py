"""`roots/<cid>[/…]`: each root as the file, directory or symlink that it is in UnixFS, or as a file of its
bytes; and `root`,
a symlink to it when there is exactly one.

A root whose block is not in the CAR is named in `shard.json` (`MissingRoots`) and not listed here; its name
answers ENOENT, and so does a CID that is no root.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from carlib.errors import CarError
from fusefs.attributes import Attributes, of_folder, of_link
from fusefs.dag import node_at
from fusefs.errors import AgentAway, ShardBroken
from fusefs.resident import NotResident
from fusefs.shard import Shard
from fusefs.tree import Entry, Known, Node
from fusefs.views.blocks import cid_of
from fusefs.waits import Lane


class Roots:
    """The registration of `roots/`."""

    name = b"roots"

    def node(self, shard: Shard) -> Node | None:
        return RootsFolder(shard) if shard.record.shows_content else None


class RootLink:
    """The registration of `root`."""

    name = b"root"

    def node(self, shard: Shard) -> Node | None:
        roots = shard.record.roots
        return RootSymlink(shard, roots[0]) if shard.record.readable and len(roots) == 1 else None


class RootSymlink:
    """A symlink to the only root."""

    lasting = True
    version = b""

    def __init__(self, shard: Shard, root: str) -> None:
        self._shard = shard
        self._root = root

    @property
    def target(self) -> bytes:
        return b"roots/" + self._root.encode()

    def attributes(self) -> Attributes:
        return of_link(self.target, self._shard.mtime_ns)

    def facts(self) -> Mapping[str, str]:
        return {"cid": self._root}


class RootsFolder:
    """The roots that are in the CAR."""

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
            if cid not in self._shard.roots(opened):
                return None
            if not self._shard.record.growing and not opened.blocks.has(cid):
                return None
            return node_at(self._shard, opened.blocks, cid, name, name)

    def child_nowait(self, name: bytes) -> Node | None:
        raise NotResident

    def children(self, known: Known) -> Iterator[Entry]:
        with self._shard.use() as opened:
            for cid in self._shard.roots(opened):
                if not opened.blocks.has(cid):
                    continue
                name = str(cid).encode()
                try:
                    yield name, node_at(self._shard, opened.blocks, cid, name, name)
                except (CarError, OSError, ShardBroken, AgentAway):
                    yield name, None
