"""`data.v2.car`: header, payload and index joined into a valid, indexed CARv2 while it is read; stored
nowhere, not verified.

0   pragma, 11 bytes; header, 40 bytes    made here
51  the CARv1 payload                     from the CAR file, without the zeros that a piece is padded with
…   the index                             from the detached index file, or from the CARv2 itself
"""

from __future__ import annotations

from collections.abc import Mapping

from carlib.header import FULLY_INDEXED, PRAGMA, V2_HEADER_BYTES, V2Header
from fusefs.attributes import Attributes, of_file
from fusefs.shard import Shard
from fusefs.spans import Layout, SpanContent, Stretch
from fusefs.stores import OpenShard
from fusefs.tree import Content, Node

_DATA_OFFSET = len(PRAGMA) + V2_HEADER_BYTES


class Joined:
    """The registration."""

    name = b"data.v2.car"

    def node(self, shard: Shard) -> Node | None:
        if not shard.record.whole or shard.record.refers_below is not None:
            return None
        with shard.use() as opened:
            return JoinedFile(shard, opened.index_size)


class JoinedFile:
    """The CARv2; its index section is `index_size` bytes."""

    lasting = True
    version = b""

    def __init__(self, shard: Shard, index_size: int) -> None:
        self._shard = shard
        self._index_size = index_size

    @property
    def _size(self) -> int:
        return _DATA_OFFSET + self._shard.record.data_size + self._index_size

    def attributes(self) -> Attributes:
        return of_file(self._size, self._shard.mtime_ns)

    def facts(self) -> Mapping[str, str]:
        record = self._shard.record
        return {"size": str(self._size), "state": record.state, "mount": record.url, "verified": "no"}

    def open(self) -> Content:
        return SpanContent(self._shard, self._layout)

    def _layout(self, opened: OpenShard) -> Layout:
        record = opened.record
        header = V2Header(
            characteristics=FULLY_INDEXED if opened.fully_indexed else 0,
            data_offset=_DATA_OFFSET,
            data_size=record.data_size,
            index_offset=_DATA_OFFSET + record.data_size,
        )
        detached = record.index_path is not None
        return (
            Stretch(_DATA_OFFSET, text=PRAGMA + header.encode()),
            Stretch(record.data_size, record.data_offset),
            Stretch(
                self._index_size, 0 if detached else opened.blocks.container.index_offset, of_index=detached
            ),
        )
