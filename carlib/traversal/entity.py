"""One UnixFS object and no more: a file or a range of it, a directory with all its shards and none of its children.

Source: IPFS specs, Trustless Gateway, ``dag-scope=entity`` and ``entity-bytes``.  Of a range only those leaves are
touched that hold its bytes, so blocks outside of it may be missing.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from carlib import dagpb
from carlib.cid import DAG_PB, Cid
from carlib.errors import CarError, Malformed
from carlib.traversal.ledger import Ledger, Visit
from carlib.unixfs import node
from carlib.unixfs.file import Inner
from carlib.unixfs.hamt import Shard

_RANGE = re.compile(r"(-?[0-9]{1,19}):(-?[0-9]{1,19}|\*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``first`` to ``last``, both included; negative ones count from the end (−1: the last byte), None is it."""

    first: int
    last: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The range in an ``entity-bytes`` parameter, ``first:last`` or ``first:*``; Malformed else."""
        match = _RANGE.fullmatch(text)
        if match is None:
            raise Malformed(f"not a byte range: {text[:60]!r} (first:last, or first:* for the rest)")
        first, last = int(match[1]), None if match[2] == "*" else int(match[2])
        if last is not None and (first < 0) == (last < 0) and first > last:
            raise Malformed(f"byte range {text} ends before it begins")
        return cls(first, last)

    def within(self, size: int) -> tuple[int, int]:
        """Start and stop (excluded) of what of the range is in a file of ``size`` bytes; start == stop for nothing."""
        start = self.first if self.first >= 0 else max(0, size + self.first)
        if self.last is None:
            stop = size
        else:
            stop = min(size, self.last + 1 if self.last >= 0 else size + self.last + 1)
        return (start, stop) if start < stop else (0, 0)


def walk_entity(ledger: Ledger, cid: Cid, depth: int, wanted: ByteRange | None = None) -> Iterator[Visit]:
    """The blocks of the object at ``cid``; ``wanted`` counts for files only.

    What is not UnixFS is its one block.  Raises Malformed or NotUnixFs where a file or shard holds something else.
    """
    visit = ledger.take(cid, depth, inner=cid.codec == DAG_PB)
    if visit is None:
        return
    if ledger.show(cid):
        yield visit
    if cid.codec != DAG_PB or visit.data is None:
        return
    found = unixfs_data(visit.data)
    if found is not None and found.is_file:
        yield from _file(ledger, visit, wanted)
    elif found is not None and found.type is node.DataType.HAMT_SHARD:
        yield from _shards(ledger, visit)


def unixfs_data(block: bytes) -> node.Data | None:
    """The UnixFS node in a dag-pb ``block``, or None where its Data is absent or something else."""
    message = dagpb.data_of(block, strict=False)
    if message is None:
        return None
    try:
        return node.Data.parse(message)
    except CarError:
        return None


def _shards(ledger: Ledger, root: Visit) -> Iterator[Visit]:
    seen = {root.cid.raw}
    stack = [_subshards(root)]
    while stack:
        cid = next(stack[-1], None)
        if cid is None:
            stack.pop()
            continue
        if cid.raw in seen:  # a shard has its one place: twice is once too often, whatever the rules are
            raise Malformed(f"shard {cid} is in a directory twice")
        seen.add(cid.raw)
        visit = ledger.take(cid, root.depth + len(stack))
        if visit is None:
            continue
        if ledger.show(cid):
            yield visit
        stack.append(_subshards(visit))


def _subshards(visit: Visit) -> Iterator[Cid]:
    if visit.cid.codec != DAG_PB or visit.data is None:
        raise node.refusal(visit.cid, None, "a shard of a directory")
    shard = Shard.parse(visit.cid, visit.data)
    return iter([Cid(cid) for name, cid in zip(shard.names, shard.cids, strict=True) if not name])


_Part = tuple[Cid, int, int]
"""A child of a file node: where its bytes start in the file, and how many they are."""


def _file(ledger: Ledger, root: Visit, wanted: ByteRange | None) -> Iterator[Visit]:
    """What is below a file's root; a subtree that is wanted whole is walked once, however often it is in the file."""
    inner = _parse(root)
    if inner is None:
        return
    start, stop = (0, inner.size) if wanted is None else wanted.within(inner.size)
    entered: set[bytes] = set()
    stack = [_parts(inner, 0, start, stop, whole=wanted is None)]
    while stack:
        part = next(stack[-1], None)
        if part is None:
            stack.pop()
            continue
        cid, base, size = part
        whole = wanted is None or (start <= base and base + size <= stop)
        if whole and not ledger.rules.duplicates:
            if cid.raw in entered:
                continue
            entered.add(cid.raw)
        visit = ledger.take(cid, root.depth + len(stack), inner=cid.codec == DAG_PB)
        if visit is None:
            continue
        if cid.codec != DAG_PB:
            if ledger.show(cid):
                leaf = [visit]
                del visit  # nothing here keeps a block that its reader is done with
                yield leaf.pop()
            inner = None
        else:
            if ledger.show(cid):
                yield visit
            inner = _parse(visit)
        if inner is not None:
            if inner.size != size:
                raise Malformed(f"file node {cid} has {inner.size} bytes where its parent says {size}")
            stack.append(_parts(inner, base, start, stop, whole=whole))


def _parse(visit: Visit) -> Inner | None:
    return None if visit.data is None else Inner.parse(visit.cid, visit.data)


def _parts(inner: Inner, base: int, start: int, stop: int, *, whole: bool) -> Iterator[_Part]:
    """The children of a node at ``base`` that hold bytes from ``start`` to ``stop``; all of them if ``whole``."""
    first = 0 if whole or start <= base else bisect_right(inner.ends, start - base)
    for number in range(first, len(inner.ends)):
        begin = inner.ends[number - 1] if number else inner.inline
        size = inner.ends[number] - begin
        if not whole and base + begin >= stop:
            return
        if size or whole:
            yield Cid(inner.cids[number]), base + begin, size
