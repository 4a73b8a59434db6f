"""Extended attributes: a node's facts under `user.carfs.`.

`cid`, `codec`, `size`, `state` (of the shard), `mount` (where its data lies), `verified` (`on-read`: every
byte is checked before it is handed out; `no`: bytes as they lie in the CAR file), and `name`, the name as
stored in the DAG, where it had to be escaped.
"""

from __future__ import annotations

from typing import Final

from fusefs.errors import NoSuchFact
from fusefs.tree import Node

PREFIX: Final = b"user.carfs."


def listed(node: Node) -> list[bytes]:
    """The names of a node's attributes."""
    return [PREFIX + name.encode() for name in node.facts()]


def value(node: Node, name: bytes) -> bytes:
    """The value of one of them; raises NoSuchFact."""
    if name.startswith(PREFIX):
        found = node.facts().get(name[len(PREFIX) :].decode(errors="replace"))
        if found is not None:
            return found.encode(errors="surrogateescape")
    raise NoSuchFact(f"no attribute {name!r}")
