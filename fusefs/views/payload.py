"""`data.car`: the CARv1 payload as it lies in the mount, damage and padding included; not verified."""

from __future__ import annotations

from collections.abc import Mapping

from fusefs.attributes import Attributes, of_file
from fusefs.shard import Shard
from fusefs.spans import Layout, SpanContent, Stretch
from fusefs.stores import OpenShard
from fusefs.tree import Content, Node


class Payload:
    """The registration."""

    name = b"data.car"

    def node(self, shard: Shard) -> Node | None:
        record = shard.record
        return PayloadFile(shard) if record.readable and record.refers_below is None else None


class PayloadFile:
    """A CARv1 file as a whole, or what a CARv2 has between its header and its index."""

    lasting = True
    version = b""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        record = shard.record
        self._stretch = (
            Stretch(record.size) if record.version == 1 else Stretch(record.data_size, record.data_offset)
        )

    def attributes(self) -> Attributes:
        return of_file(self._stretch.size, self._shard.mtime_ns)

    def facts(self) -> Mapping[str, str]:
        record = self._shard.record
        return {"size": str(self._stretch.size), "state": record.state, "mount": record.url, "verified": "no"}

    def open(self) -> Content:
        return SpanContent(self._shard, self._layout)

    def _layout(self, _: OpenShard) -> Layout:
        return (self._stretch,)
