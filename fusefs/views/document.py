"""`shard.json` and `import.json`: all that is known of the shard or import, in any state of it; changes with it."""

from __future__ import annotations

import json

from fusefs.shard import Shard
from fusefs.tree import Node, RenderedFile


class Document:
    """The registration."""

    def __init__(self, name: bytes) -> None:
        self.name = name

    def node(self, shard: Shard) -> Node:
        return RenderedFile(lambda: render(shard), lambda: shard.mtime_ns)


def render(shard: Shard) -> bytes:
    """The record as the catalogue gave it, `MissingRoots` once that was looked at, and what is not shown and why."""
    record = shard.record
    document = dict(record.document)
    if shard.missing_roots is not None:
        document["MissingRoots"] = list(shard.missing_roots)
    if record.whole and record.refers_below is not None:
        document["Absent"] = {"data.v2.car": "there is no index of a CAR that is only rendered"}
        if shard.obstacle:
            document["Absent"]["data.car"] = shard.obstacle
    return json.dumps(document, indent=2, ensure_ascii=False, default=str).encode() + b"\n"
