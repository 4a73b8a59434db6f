"""Blocks as values of the IPLD data model, what lies below a value, and UnixFS objects in the place of their nodes.

A dag-pb block is ``{Links: [{Hash, Name, Tsize}], Data}``, absent fields left out, as in its specification.  Text that
is not UTF-8 comes with surrogate escapes.  Blocks of other codecs are bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

from carlib import dagcbor, dagjson, dagpb
from carlib.blockstore import Blocks
from carlib.cid import DAG_CBOR, DAG_JSON, DAG_PB, Cid
from carlib.errors import CarError, LimitExceeded, Malformed
from carlib.limits import MAX_BLOCK_BYTES, MAX_NODE_DEPTH
from carlib.traversal.entity import ByteRange, unixfs_data, walk_entity
from carlib.traversal.ledger import Ledger, Visit
from carlib.traversal.path import Passed
from carlib.unixfs import Entry
from carlib.unixfs import node as unixfs_node
from carlib.unixfs.file import File
from carlib.unixfs.hamt import ShardedListing
from carlib.varint import Buffer

Node = Any  # a value of the IPLD data model, or a FileNode or ShardNode
Segment = str | int
"""A key of a map or an index of a list."""
Child = tuple[Segment, Node]

VIEWS: Final = frozenset({"unixfs", "unixfs-preload"})
"""What nodes can be interpreted as; the second one touches all shards of a directory."""


def decode(cid: Cid, block: bytes) -> Node:
    """The value of ``block``; raises Malformed, Truncated or LimitExceeded."""
    try:
        return _DECODERS.get(cid.codec, bytes)(block)
    except CarError as error:
        raise error.located(source=f"block {cid}") from None


def _dag_pb(block: Buffer) -> dict[str, Node]:
    cids, names, tsizes, data = dagpb.columns(block, strict=False)
    links = []
    for cid, name, tsize in zip(cids, names, tsizes, strict=True):
        link: dict[str, Node] = {"Hash": Cid(cid)}
        if name is not None:
            link["Name"] = name.decode("utf-8", "surrogateescape")
        if tsize is not None:
            link["Tsize"] = tsize
        links.append(link)
    value: dict[str, Node] = {"Links": links}
    if data is not None:
        value["Data"] = bytes(data)
    return value


_DECODERS: Final[dict[int, Callable[[bytes], Node]]] = {
    DAG_PB: _dag_pb,
    DAG_CBOR: lambda block: dagcbor.decode(block, strict=False),
    DAG_JSON: dagjson.decode,
}


def length_of(node: Node) -> int | None:
    """Bytes of a string or of bytes, None for what is neither."""
    match node:
        case str():
            return len(node.encode("utf-8", "surrogateescape"))
        case bytes() | FileNode():
            return len(node)
    return None


def children(node: Node, interests: Iterable[Segment] | None) -> Iterator[Child]:
    """What lies below ``node`` under ``interests``, those that are not there left out, or all of it for None."""
    match node:
        case dict() if interests is None:
            yield from node.items()
        case list() if interests is None:
            yield from enumerate(node)
        case dict():
            for segment in interests or ():
                if (name := str(segment)) in node:
                    yield name, node[name]
        case list():
            for segment in interests or ():
                if (index := _index(segment)) is not None and index < len(node):
                    yield index, node[index]
        case ShardNode():
            yield from node.children(interests)


def _index(segment: Segment) -> int | None:
    """``segment`` as an index, which keys are taken for where they are decimal numbers."""
    if isinstance(segment, int):
        return segment
    return int(segment) if segment.isascii() and segment.isdigit() and len(segment) < 20 else None


@dataclass(frozen=True, slots=True)
class FileNode:
    """A UnixFS file, or a part of one, in the place of bytes; nothing is read until somebody asks for it."""

    file: File
    depth: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice) -> Self:
        start, stop, _ = part.indices(len(self))
        return type(self)(self.file, self.depth, self.start + start, self.start + max(start, stop))

    def __bytes__(self) -> bytes:
        return self.file.read(self.start, len(self))

    def walk(self, ledger: Ledger) -> Iterator[Visit]:
        """The blocks that hold this part, but for the file's root, which was given when it was reached."""
        if self.start < self.stop:
            for visit in walk_entity(ledger, self.file.cid, self.depth, ByteRange(self.start, self.stop - 1)):
                if visit.depth > self.depth:
                    yield visit


class ShardNode:
    """A sharded directory in the place of a map; look-ups touch the shards on their way."""

    def __init__(self, passed: Passed, cid: Cid, block: bytes) -> None:
        self._listing = ShardedListing(passed, cid, block)

    def children(self, interests: Iterable[Segment] | None) -> Iterator[Child]:
        if interests is None:
            for entry in self.entries():
                yield entry.name.decode("utf-8", "surrogateescape"), entry.cid
            return
        for segment in interests:
            found = self._listing.lookup(str(segment).encode("utf-8", "surrogateescape"))
            if found is not None:
                yield str(segment), found.cid

    def entries(self) -> list[Entry]:
        """All of them, with every shard read."""
        errors: list[CarError] = []
        entries = list(self._listing.entries(errors.append))
        if errors:
            raise errors[0]
        return entries


def reify(
    view: str, node: Node, visit: Visit, passed: Passed, file_store: Blocks, *, whole_block: bool
) -> Node:
    """``node``, found in the block of ``visit``, as the UnixFS object that it is; what is none stays what it is.

    ``whole_block``: whether it is that block's root.  Blocks that this takes are taken through ``passed``, a file's
    content from ``file_store`` when it is read.  Raises Malformed for a view that we do not know.
    """
    if view not in VIEWS:
        raise Malformed(f'unregistered adl requested: "{view}"')
    if whole_block and visit.cid.codec == DAG_PB and visit.data is not None:
        return _object(view, node, visit, visit.data, passed, file_store)
    return _loose_file(node, passed, {}, 0)


def _object(view: str, node: Node, visit: Visit, block: bytes, passed: Passed, file_store: Blocks) -> Node:
    found = unixfs_data(block)
    if found is not None and found.is_file:
        file = File.open(file_store, visit.cid)
        return FileNode(file, visit.depth, 0, file.size)
    if found is not None and found.type is unixfs_node.DataType.HAMT_SHARD:
        shard = ShardNode(passed, visit.cid, block)
        if view == "unixfs-preload":
            shard.entries()
        return shard
    if found is not None and found.type is not unixfs_node.DataType.DIRECTORY:
        return node
    entries: dict[str, Node] = {}
    for link in node["Links"]:
        entries.setdefault(link.get("Name", ""), link["Hash"])
    return entries


def _loose_file(node: Node, passed: Passed, known: dict[bytes, Node], nested: int) -> Node:
    """The bytes of a file whose nodes look like dag-pb and are of another codec; any other node as it is.

    It is read whole, as no size in it can be relied on, so it may be no longer than a block.
    """
    if not isinstance(node, dict) or not isinstance(node.get("Links"), list):
        return node
    found = unixfs_node.Data.parse(node["Data"]) if isinstance(node.get("Data"), bytes) else None
    if found is None or not found.is_file:
        return node
    if nested > MAX_NODE_DEPTH:
        raise LimitExceeded("depth of a file", nested, MAX_NODE_DEPTH)
    content = bytearray(b"" if found.data is None else found.data)
    for link in node["Links"]:
        cid = link.get("Hash") if isinstance(link, dict) else None
        if not isinstance(cid, Cid):
            raise Malformed("a file node has a link without a Hash")
        if cid.raw not in known:
            known[cid.raw] = _loose_file(decode(cid, passed.get(cid)), passed, known, nested + 1)
        part = known[cid.raw]
        if not isinstance(part, bytes):
            raise Malformed(f"{cid} is not part of a file")
        content += part
        if len(content) > MAX_BLOCK_BYTES:
            raise LimitExceeded("size of a file that is not dag-pb", len(content), MAX_BLOCK_BYTES)
    return bytes(content)
