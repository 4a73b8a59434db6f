"""From a root along a path to the block it ends in, giving each block that proves the way.

A name is looked up in a UnixFS directory (of a sharded one only the shards on the way are touched), among the links
of other dag-pb, or as a key or list index in dag-cbor and dag-json.  A path that ends inside of a block ends at it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final, NamedTuple

from carlib import dagcbor, dagjson
from carlib.cid import DAG_CBOR, DAG_JSON, DAG_PB, Cid
from carlib.errors import CarError
from carlib.traversal.entity import unixfs_data
from carlib.traversal.ledger import Ledger, Visit
from carlib.unixfs import NoSuchEntry, node
from carlib.unixfs.directory import Listing, PlainListing
from carlib.unixfs.hamt import ShardedListing
from carlib.varint import Buffer

_DECODERS: Final[dict[int, Callable[[Buffer], Any]]] = {  # Any: a value of the IPLD data model
    DAG_CBOR: lambda block: dagcbor.decode(block, strict=False),
    DAG_JSON: dagjson.decode,
}


class NoSuchField(NoSuchEntry):
    """A structured block has nothing under that key or index."""

    def __init__(self, name: bytes, block: Cid) -> None:
        super().__init__(name, block)
        self.message = f"nothing under {name!r} in block {block}"
        self.args = (self.message,)


class Passed:
    """A ledger as the :class:`~carlib.blockstore.Blocks` of a look-up; ``visits`` are what that asked for."""

    def __init__(self, ledger: Ledger, depth: int) -> None:
        self.visits: list[Visit] = []
        self._ledger = ledger
        self._depth = depth

    def get(self, cid: Cid) -> bytes:
        visit = self._ledger.take(cid, self._depth + 1, required=True)
        if visit is None or visit.data is None:
            raise AssertionError("a required inner block comes with its data")
        self.visits.append(visit)
        return visit.data

    def has(self, cid: Cid) -> bool:
        raise AssertionError("look-ups read")

    def size(self, cid: Cid) -> int:
        raise AssertionError("look-ups read")


def follow(ledger: Ledger, root: Cid, path: tuple[bytes, ...]) -> Generator[Visit, None, tuple[Cid, int]]:
    """The blocks on the way; returns the CID at the end, which is not among them, and how many links away it is.

    Raises NoSuchEntry after the blocks that prove it, NotUnixFs where a name follows what has none below it,
    BlockNotFound whatever the rules are: there is no way around.
    """
    cid, depth, position = root, 0, 0
    while position < len(path):
        visit = ledger.take(cid, depth, required=True)
        if visit is None or visit.data is None:
            raise AssertionError("a required inner block comes with its data")
        passed = Passed(ledger, depth)
        error = step = None
        try:
            step = _step(passed, cid, visit.data, path, position)
        except CarError as caught:
            error = caught
        if step is not None and step.cid is None:
            break  # inside of this block, which is the end then
        for each in (visit, *passed.visits):
            if ledger.show(each.cid):
                yield each
        if error is not None:
            raise error
        if step is None or step.cid is None:
            raise NoSuchEntry(path[position], cid)
        cid, depth, position = step.cid, depth + len(passed.visits) + 1, step.position
    return cid, depth


class _Step(NamedTuple):
    """Where one look-up led, None for a place inside of the block, and how much of the path is behind it."""

    cid: Cid | None
    position: int


def _step(passed: Passed, cid: Cid, block: bytes, path: tuple[bytes, ...], position: int) -> _Step | None:
    """One block further, or None where a directory has no such entry."""
    if cid.codec in _DECODERS:
        return _field(cid, block, path, position)
    entry = _listing(passed, cid, block).lookup(path[position])
    return None if entry is None else _Step(entry.cid, position + 1)


def _listing(passed: Passed, cid: Cid, block: bytes) -> Listing:
    if cid.codec != DAG_PB:
        raise node.refusal(cid, None, "a directory")
    found = unixfs_data(block)
    if found is None or found.type is node.DataType.DIRECTORY:
        return PlainListing(block)
    if found.type is node.DataType.HAMT_SHARD:
        return ShardedListing(passed, cid, block)
    raise node.refusal(cid, found, "a directory")


def _field(cid: Cid, block: bytes, path: tuple[bytes, ...], position: int) -> _Step:
    """The first link on ``path`` from ``position`` on in a structured block."""
    value = _DECODERS[cid.codec](block)
    while position < len(path):
        name = path[position]
        value = _child(value, name)
        if value is _NOTHING:
            raise NoSuchField(name, cid)
        position += 1
        if isinstance(value, Cid):
            return _Step(value, position)
    return _Step(None, position)


_NOTHING: Final = object()


def _child(value: Any, name: bytes) -> Any:
    if isinstance(value, dict):
        return value.get(name.decode("utf-8", "surrogateescape"), _NOTHING)
    if isinstance(value, list) and name.isdigit() and len(name) < 20 and int(name) < len(value):
        return value[int(name)]
    return _NOTHING
