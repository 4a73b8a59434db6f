"""`shard.json`: all that is known of the shard, in any state of it; changes with it."""

from __future__ import annotations

import json

from fusefs.shard import Shard
from fusefs.tree import Node, RenderedFile


class Document:
    """The registration."""

    name = b"shard.json"

    def node(self, shard: Shard) -> Node:
        return RenderedFile(lambda: render(shard), lambda: shard.mtime_ns)


def render(shard: Shard) -> bytes:
    """The record as the catalogue gave it, and `missing_roots` once that was looked at."""
    document = dict(shard.record.document)
    if shard.missing_roots is not None:
        document["MissingRoots"] = list(shard.missing_roots)
    return json.dumps(document, indent=2, ensure_ascii=False, default=str).encode() + b"\n"
