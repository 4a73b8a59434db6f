"""Directories, plain and sharded, behind one interface.

Of two entries with one name the first counts, in listings and look-ups alike.  Names are as stored, any bytes at all:
:mod:`carlib.names` makes them fit for a file system.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from carlib import dagpb
from carlib.blockstore import Blocks
from carlib.cid import DAG_PB, Cid
from carlib.errors import CarError
from carlib.unixfs import node
from carlib.unixfs.entry import Entry, OnMissing
from carlib.unixfs.hamt import ShardedListing
from carlib.varint import Buffer


class Listing(Protocol):
    """The entries of one directory node, however it keeps them."""

    def entries(self, on_missing: OnMissing) -> Iterator[Entry]: ...
    def lookup(self, name: bytes) -> Entry | None: ...


class Directory:
    """A directory to list and to look up in.  Thread-safe."""

    __slots__ = ("_listing", "cid", "sharded")

    def __init__(self, cid: Cid, listing: Listing, sharded: bool) -> None:
        self.cid = cid
        self.sharded = sharded
        self._listing = listing

    @classmethod
    def open(cls, blocks: Blocks, cid: Cid) -> Directory:
        """The directory at ``cid``, of which one block is read now; NotUnixFs for anything else."""
        if cid.codec != DAG_PB:
            raise node.refusal(cid, None, "a directory")
        block = node.fetch(blocks, cid)
        found = node.data_of(block)
        if found is not None and found.type is node.DataType.DIRECTORY:
            return cls(cid, PlainListing(block), sharded=False)
        if found is not None and found.type is node.DataType.HAMT_SHARD:
            return cls(cid, ShardedListing(blocks, cid, block), sharded=True)
        raise node.refusal(cid, found, "a directory")

    def __iter__(self) -> Iterator[Entry]:
        """The entries, in link order, sharded ones in shard order and read shard by shard.

        What can be listed is, before the first error about a shard is raised.
        """
        errors: list[CarError] = []
        yield from self._listing.entries(errors.append)
        if errors:
            raise errors[0]

    def entries(self, on_missing: OnMissing | None = None) -> Iterator[Entry]:
        """As iteration, but with ``on_missing`` called for each shard that is not here or not readable; none raises."""
        return iter(self) if on_missing is None else self._listing.entries(on_missing)

    def lookup(self, name: bytes) -> Entry | None:
        """The entry called ``name``; of a sharded directory only the shards on its path are read."""
        return self._listing.lookup(name)


class PlainListing:
    """A directory in one block."""

    __slots__ = ("_columns", "_index")

    def __init__(self, block: Buffer) -> None:
        self._columns = dagpb.columns(block)
        self._index: dict[bytes, int] = {}
        for position, name in enumerate(self._columns.names):
            self._index.setdefault(name or b"", position)

    def entries(self, on_missing: OnMissing) -> Iterator[Entry]:
        cids, _, tsizes, _ = self._columns
        for name, position in self._index.items():
            yield Entry(name, Cid(cids[position]), tsizes[position] or 0)

    def lookup(self, name: bytes) -> Entry | None:
        position = self._index.get(name)
        if position is None:
            return None
        return Entry(name, Cid(self._columns.cids[position]), self._columns.tsizes[position] or 0)
