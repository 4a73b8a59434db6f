"""Files: which block holds which bytes, found by walking only the path to an offset.

A file node may hold bytes of its own, which come before those of its children (inline data), and its leaves may be
raw blocks, dag-pb blocks or identity CIDs, at unequal depths (trickle).  Sizes that a parent states are
checked against each child when that child is reached, so a tree that lies is Malformed there
and readable elsewhere.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from carlib import dagpb
from carlib.blockstore import Blocks
from carlib.cid import DAG_PB, RAW, Cid
from carlib.errors import LimitExceeded, Malformed
from carlib.limits import MAX_DAG_DEPTH
from carlib.unixfs import node
from carlib.unixfs.cache import NodeCache
from carlib.varint import Buffer

CACHED_LINKS: Final = 16_384
"""Links of inner nodes that one file keeps parsed: about 1.5 MB, and 16 GiB of 1 MiB leaves."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """Bytes ``start`` to ``stop`` of a file are in block ``cid``: all of it, or the Data inside where ``wrapped``."""

    cid: Cid
    start: int
    stop: int
    wrapped: bool


@dataclass(frozen=True, slots=True)
class Inner:
    """One dag-pb node of a file: ``inline`` bytes of its own, then its children; ``ends`` count from its start."""

    inline: int
    ends: array[int]
    cids: list[bytes]

    @property
    def size(self) -> int:
        return self.ends[-1] if self.ends else self.inline

    @classmethod
    def parse(cls, cid: Cid, block: Buffer) -> Inner | None:
        """The file node in ``block``, or None where it is dag-pb but no UnixFS; NotUnixFs for another kind of node."""
        cids, names, _, message = dagpb.columns(block)
        found = None if message is None else node.Data.parse(message)
        if found is None or found.type is node.DataType.METADATA:
            return None
        if not found.is_file:
            raise node.refusal(cid, found, "a file")
        if len(cids) != len(found.blocksizes):
            raise Malformed(f"file node {cid} has {len(cids)} links and {len(found.blocksizes)} blocksizes")
        if any(names):
            raise Malformed(f"file node {cid} has a named link")
        inline = 0 if found.data is None else len(found.data)
        ends, end = array("Q"), inline
        for size in found.blocksizes:
            end += size
            ends.append(end)
        return cls(inline, ends, cids)


class File:
    """A file to read from at random.  ``leaf_at`` reads only the inner nodes on its path, and keeps some of them.

    What is not UnixFS (another codec, dag-pb without Data) is a file of its block's bytes.  Thread-safe.
    """

    __slots__ = ("_blocks", "_cache", "_root", "cid", "size")

    def __init__(
        self, blocks: Blocks, cid: Cid, root: Inner | None, size: int, cache: NodeCache[Inner]
    ) -> None:
        self.cid = cid
        self.size = size
        self._blocks = blocks
        self._root = root
        self._cache = cache

    @classmethod
    def open(cls, blocks: Blocks, cid: Cid, cache: NodeCache[Inner] | None = None) -> File:
        """The file at ``cid``: its root node is read, or only its block's size where it is no dag-pb.

        ``cache`` can be shared by many files.  NotUnixFs for directories and symlinks.
        """
        kept: NodeCache[Inner] = NodeCache(CACHED_LINKS) if cache is None else cache
        if cid.codec != DAG_PB:
            return cls(blocks, cid, None, node.size_of(blocks, cid), kept)
        block = node.fetch(blocks, cid)
        root = Inner.parse(cid, block)
        return cls(blocks, cid, root, len(block) if root is None else root.size, kept)

    def leaf_at(self, offset: int) -> Leaf:
        """The leaf that holds the byte at ``offset``; ValueError outside of the file."""
        if not 0 <= offset < self.size:
            raise ValueError(f"offset {offset} is not in a file of {self.size} bytes")
        if self._root is None:
            return Leaf(self.cid, 0, self.size, wrapped=False)
        cid, inner, base = self.cid, self._root, 0
        for _ in range(MAX_DAG_DEPTH):
            if offset - base < inner.inline:
                return Leaf(cid, base, base + inner.inline, wrapped=True)
            index = bisect_right(inner.ends, offset - base)  # never a child without bytes
            start = inner.ends[index - 1] if index else inner.inline
            stop = base + inner.ends[index]
            base += start
            cid = Cid(inner.cids[index])
            codec = cid.codec
            if codec == RAW:
                return Leaf(cid, base, stop, wrapped=False)
            if codec != DAG_PB:
                raise Malformed(f"file links to {cid}, which is neither raw nor dag-pb")
            inner = self._inner(cid, stop - base)
        raise LimitExceeded("depth of a file", MAX_DAG_DEPTH + 1, MAX_DAG_DEPTH)

    def leaves(self, start: int = 0, stop: int | None = None) -> Iterator[Leaf]:
        """The leaves that hold the bytes from ``start`` to ``stop`` (default: the end), in order; the ends not cut."""
        stop = self.size if stop is None else min(stop, self.size)
        while start < stop:
            leaf = self.leaf_at(start)
            yield leaf
            start = leaf.stop

    def read(self, offset: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``offset`` on, fewer only where the file ends; the caller bounds ``size``."""
        parts = []
        stop = offset + size
        for leaf in self.leaves(offset, stop):
            payload = leaf_payload(leaf.cid, node.fetch(self._blocks, leaf.cid), leaf)
            parts.append(payload[max(offset - leaf.start, 0) : stop - leaf.start])
        return b"".join(parts)

    def _inner(self, cid: Cid, size: int) -> Inner:
        inner = self._cache.get(cid.raw)
        if inner is None:
            inner = Inner.parse(cid, node.fetch(self._blocks, cid))
            if inner is None:
                raise node.refusal(cid, None, "part of a file")
            self._cache.put(cid.raw, inner, 8 + len(inner.cids))
        if inner.size != size:
            raise Malformed(f"file node {cid} has {inner.size} bytes where its parent says {size}")
        return inner


def leaf_payload(cid: Cid, block: Buffer, leaf: Leaf | None = None) -> memoryview:
    """The file's bytes inside a leaf's ``block``, uncopied; Malformed where they are not as many as ``leaf`` says.

    Without ``leaf``, a dag-pb block is taken for a wrapped leaf.
    """
    payload = memoryview(block)
    if leaf.wrapped if leaf is not None else cid.codec == DAG_PB:
        found = node.data_of(block)
        if found is None or not found.is_file:
            raise node.refusal(cid, found, "part of a file")
        payload = memoryview(b"" if found.data is None else found.data)
    if leaf is not None and len(payload) != leaf.stop - leaf.start:
        raise Malformed(f"leaf {cid} has {len(payload)} bytes where its parent says {leaf.stop - leaf.start}")
    return payload
