"""What is still to be asked for: the missing parts of a DAG, as requests that a source can answer.

All of it follows from what is here already, so a break costs nothing but a walk: whatever was kept is not asked for
again. Inner nodes are read, leaves only looked up. Pure but for the reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from carlib import dagpb, links, selectors
from carlib.blockstore import Blocks
from carlib.cid import DAG_PB, Cid
from carlib.errors import BlockNotFound, CarError
from carlib.traversal import ByteRange, Request, Rules, Scope, Traversal
from carlib.traversal.entity import unixfs_data
from carlib.unixfs.file import Inner

MOST: Final = 4096
"""Units of one plan; what comes after them is found by the next one."""
SLICE_BYTES: Final = 16 << 20
"""Of a file, asked for at once where several sources share the work."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block."""

    cid: Cid


@dataclass(frozen=True, slots=True)
class Subtree:
    """A block and all below it, none of which is here."""

    cid: Cid


@dataclass(frozen=True, slots=True)
class Slice:
    """Bytes [first, last] of a file whose node is here."""

    cid: Cid
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Part:
    """What a partial order asks for, as a gateway can be asked for it."""

    request: Request

    @property
    def cid(self) -> Cid:
        return self.request.root


Unit = Block | Subtree | Slice | Part


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted: everything below `root`, or the part of it that a request or a selector says."""

    root: Cid
    path: tuple[bytes, ...] = ()
    scope: Scope = Scope.ALL
    entity_bytes: ByteRange | None = None
    selector: str = ""  # JSON or text path, as Lotus has it

    @property
    def is_whole(self) -> bool:
        return not self.path and self.scope is Scope.ALL and self.entity_bytes is None and not self.selector

    @property
    def request(self) -> Request:
        return Request(self.root, self.path, self.scope, self.entity_bytes)


def plan(blocks: Blocks, order: Order, *, shared: bool = False, most: int = MOST) -> list[Unit]:
    """The first `most` units of what is missing, in the order in which the data are read; none: all of it is here.

    `shared`: units are small enough for several sources to share. Raises CarError for what cannot be such a DAG.
    """
    if order.selector:
        return _selected(blocks, order)
    if order.is_whole:
        return list(islice(_joined(_below(blocks, order.root, shared), shared), most))
    return _partial(blocks, order)


def size_below(blocks: Blocks, root: Cid) -> int | None:
    """Bytes of all that is below a root that is here, as it says itself; None where it says nothing, or is not here."""
    if root.codec != DAG_PB or not _is_here(blocks, root):
        return None
    data = blocks.get(root)
    return len(data) + sum(size or 0 for size in dagpb.columns(data, strict=False).tsizes)


def is_leaf(cid: Cid) -> bool:
    """Whether nothing is below it."""
    return links.scanner_of(cid.codec) is None


def in_slice(blocks: Blocks, unit: Slice) -> list[Cid]:
    """The children of a file's node, which is here, that hold the bytes of a slice and are not here."""
    inner = _file_node(unit.cid, blocks.get(unit.cid))
    if inner is None:
        return []
    found, begin = [], inner.inline
    for number, raw in enumerate(inner.cids):
        start, begin = begin, inner.ends[number]
        if start <= unit.last and unit.first < begin and not _is_here(blocks, Cid(raw)):
            found.append(Cid(raw))
    return found


def _below(blocks: Blocks, root: Cid, shared: bool) -> Iterator[Unit]:
    """What is missing, a unit for each missing child, depth first."""
    if not _is_here(blocks, root):
        yield _of_missing(root, 1 << 62 if shared and root.codec == DAG_PB else 0)
        return
    seen: set[bytes] = set()
    stack: list[Iterator[Unit | Cid]] = [iter([root])]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
        elif isinstance(found, Cid):
            if found.raw not in seen:
                seen.add(found.raw)
                stack.append(_children(blocks, found, shared))
        else:
            yield found


def _children(blocks: Blocks, cid: Cid, shared: bool) -> Iterator[Unit | Cid]:
    """Of a block that is here: inner ones that are here too, and units for those that are not."""
    if links.scanner_of(cid.codec) is None:
        return
    data = blocks.get(cid)
    inner = _file_node(cid, data)
    if inner is not None:
        yield from _of_file(blocks, cid, inner)
        return
    sizes = dagpb.columns(data, strict=False).tsizes if shared and cid.codec == DAG_PB else None
    for number, child in enumerate(links.links(cid, data)):
        if not _is_here(blocks, child):
            yield _of_missing(child, 0 if sizes is None else sizes[number] or 0)
        elif links.scanner_of(child.codec) is not None:
            yield child


def _of_file(blocks: Blocks, cid: Cid, inner: Inner) -> Iterator[Unit | Cid]:
    begin = inner.inline
    for number, raw in enumerate(inner.cids):
        child = Cid(raw)
        start, begin = begin, inner.ends[number]
        if not _is_here(blocks, child):
            yield Slice(cid, start, begin - 1) if begin > start else _of_missing(child, 0)
        elif links.scanner_of(child.codec) is not None:
            yield child


def _joined(units: Iterator[Unit], shared: bool) -> Iterator[Unit]:
    """Neighbouring slices of one file are one request, of `SLICE_BYTES` where the work is shared."""
    held: Slice | None = None
    given: set[Unit] = set()
    for unit in units:
        if isinstance(unit, Slice):
            size = SLICE_BYTES if shared else 1 << 62
            if held is not None and _goes_on(held, unit, size):
                held = Slice(held.cid, held.first, unit.last)
                continue
            if held is not None:
                yield held
            held = unit
            continue
        if held is not None:
            yield held
            held = None
        if unit not in given:
            given.add(unit)
            yield unit
    if held is not None:
        yield held


def _goes_on(held: Slice, unit: Slice, most: int) -> bool:
    return held.cid == unit.cid and held.last + 1 == unit.first and unit.last - held.first < most


def _of_missing(cid: Cid, size: int) -> Unit:
    """`size`: of all below it, as its parent says; what is too big to be one unit is looked into first."""
    is_leaf = links.scanner_of(cid.codec) is None
    return Block(cid) if is_leaf or size > 2 * SLICE_BYTES else Subtree(cid)


def _file_node(cid: Cid, data: bytes) -> Inner | None:
    if cid.codec != DAG_PB:
        return None
    found = unixfs_data(data)
    if found is None or not found.is_file:
        return None
    try:
        return Inner.parse(cid, data)
    except CarError:
        return None  # its links are followed all the same


def _is_here(blocks: Blocks, cid: Cid) -> bool:
    return cid.is_identity or blocks.has(cid)


def _partial(blocks: Blocks, order: Order) -> list[Unit]:
    if not _is_here(blocks, order.root):
        return [Part(order.request)]
    walk = Traversal(blocks, (order.request,), Rules(skip_missing=True)).walk(data=False)
    try:
        for _ in walk:
            pass
    except BlockNotFound as error:  # on the path, around which there is no way
        return [Block(error.cid)]
    return [Block(cid) for cid in walk.missing]


def _selected(blocks: Blocks, order: Order) -> list[Unit]:
    if not _is_here(blocks, order.root):
        return [Block(order.root)]
    spec = selectors.DagSpec(order.selector, merkle_proof=True)
    try:
        for _ in selectors.car_selection(blocks, order.root, [spec]).walk(data=False):
            pass
    except BlockNotFound as error:
        return [Block(error.cid)]
    return []
