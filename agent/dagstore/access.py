"""How another process reads the data of a shard: a value that crosses the wire."""

from __future__ import annotations

import msgspec


class FileAccess(msgspec.Struct, frozen=True, tag_field="Kind", tag="file", rename="pascal"):
    """A file, used in place."""

    path: str


class SectorAccess(msgspec.Struct, frozen=True, tag_field="Kind", tag="sector", rename="pascal"):
    """A piece in an unsealed sector: from `offset` (padded bytes) of the file on, `size` bytes of payload."""

    path: str
    offset: int
    size: int


class TransientAccess(msgspec.Struct, frozen=True, tag_field="Kind", tag="transient", rename="pascal"):
    """A sparse file of `size` bytes and the map of what of it is there; the rest is asked for."""

    data: str
    map: str
    size: int


Access = FileAccess | SectorAccess | TransientAccess
