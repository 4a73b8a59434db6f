"""`data.car`: the CARv1 payload as it lies in the mount, damage and padding included; not verified. Of an import by
reference, with its leaves, which are (`rendering.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fusefs.attributes import Attributes, of_file
from fusefs.shard import Shard
from fusefs.spans import Layout, SpanContent, Stretch
from fusefs.stores import OpenShard
from fusefs.tree import Buffer, Content, Node

if TYPE_CHECKING:
    from fusefs.rendering import Rendering


class Payload:
    """The registration."""

    name = b"data.car"

    def node(self, shard: Shard) -> Node | None:
        record = shard.record
        if not record.whole:
            return None
        if record.refers_below is None:
            return PayloadFile(shard)
        if shard.rendered_size is None and not shard.obstacle:
            with shard.use() as opened:
                shard.obstacle = opened.obstacle()
                if not shard.obstacle:
                    shard.rendered_size = opened.rendering().size
        return None if shard.rendered_size is None else RenderedPayload(shard, shard.rendered_size)


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


class RenderedPayload:
    """Likewise, of an import by reference; `size` is what the whole has."""

    lasting = True
    version = b""

    def __init__(self, shard: Shard, size: int) -> None:
        self._shard = shard
        self._size = size

    def attributes(self) -> Attributes:
        return of_file(self._size, self._shard.mtime_ns)

    def facts(self) -> Mapping[str, str]:
        record = self._shard.record
        return {"size": str(self._size), "state": record.state, "mount": record.url, "verified": "no"}

    def open(self) -> Content:
        return RenderedContent(self._shard, self._size)


class RenderedContent(SpanContent):
    """One handle's reading of it."""

    def __init__(self, shard: Shard, size: int) -> None:
        record = shard.record
        super().__init__(shard, lambda _: (Stretch(record.data_size, record.data_offset),))
        self._payload_size = record.data_size
        self._size = size

    def read_nowait(self, offset: int, size: int) -> Buffer | None:
        return None

    def _read(self, offset: int, size: int) -> Buffer:
        stop = min(offset + size, self._size)
        parts: list[Buffer] = []
        with self._shard.use() as opened:
            if offset < self._payload_size:
                parts.append(super()._read(offset, min(stop, self._payload_size) - offset))
                offset = min(stop, self._payload_size)
            rendering = opened.rendering() if offset < stop else None
            while rendering is not None and offset < stop:
                part = _section_bytes(opened, rendering, offset, stop)
                parts.append(part)
                offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _section_bytes(opened: OpenShard, rendering: Rendering, offset: int, stop: int) -> bytes:
    """Some bytes from `offset` on, up to `stop` or the end of the section."""
    start, head, cid, size = rendering.section(offset)
    inside = offset - start
    if inside < len(head):
        return head[inside : inside + stop - offset]
    begin = inside - len(head)
    return opened.blocks.read(cid, begin, min(size, begin + stop - offset))
