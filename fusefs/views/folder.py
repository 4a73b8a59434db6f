"""The directory of a shard, an import or a retrieval, filled by its views.

`shards/<key>/`, `imports/<name>/`, `retrievals/<cid>/`, a CAR's directory where several were given, and `.carfs/` where
one was, are all this folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fusefs.attributes import Attributes, of_folder
from fusefs.catalogue import What
from fusefs.errors import ReadOnlyTree
from fusefs.resident import NotResident
from fusefs.shard import Shard
from fusefs.tree import Entry, Known, Node
from fusefs.views import VIEWS


class ShardFolder:
    """The directory of one shard: an entry for each view that has something to show."""

    lasting = True

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.lane = shard.names_lane
        self.version = shard.record.version_key
        self._views = VIEWS[shard.record.what]

    @property
    def settled(self) -> bool:
        return self.shard.record.whole

    def attributes(self) -> Attributes:
        return of_folder(self.shard.mtime_ns, 2)

    def facts(self) -> Mapping[str, str]:
        record = self.shard.record
        return {"state": record.state, "mount": record.url, "size": str(record.size)}

    def change(self, *, mode: int | None, mtime_ns: int | None, size: int | None) -> None:
        """`cp` and its like give what they have copied permissions and times; an import has those of its content."""
        if self.shard.record.what is not What.IMPORT:
            raise ReadOnlyTree

    def child(self, name: bytes) -> Node | None:
        for view in self._views:
            if view.name == name:
                return view.node(self.shard)
        return None

    def child_nowait(self, name: bytes) -> Node | None:
        raise NotResident

    def children(self, known: Known) -> Iterator[Entry]:
        for view in self._views:
            node = view.node(self.shard)
            if node is not None:
                yield view.name, node
