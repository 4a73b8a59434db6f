"""Everything below a CID, depth first: a block, then what it links to, in the order of its links."""

from __future__ import annotations

from collections.abc import Iterator

from carlib.cid import Cid
from carlib.errors import CarError
from carlib.links import NAMES, Scanner, scanner_of
from carlib.traversal.ledger import Ledger, Visit


def walk_dag(ledger: Ledger, root: Cid, depth: int = 0) -> Iterator[Visit]:
    """The DAG below ``root``, which is ``depth`` links from where the traversal began.

    The stack is ours, so that a chain of a million links is no deeper than a tree; it holds the links still to follow
    of each block on the way down.
    """
    unknown_is_leaf = ledger.rules.unknown_is_leaf
    stack: list[Iterator[Cid]] = [iter((root,))]
    while stack:
        cid = next(stack[-1], None)
        if cid is None:
            stack.pop()
            continue
        if not ledger.enter(cid):
            continue
        codec = cid.codec
        if codec in NAMES:
            continue
        scanner = scanner_of(codec, unknown_is_leaf=unknown_is_leaf)
        visit = ledger.take(cid, depth + len(stack) - 1, inner=scanner is not None)
        if visit is None:
            continue
        if scanner is None or visit.data is None:
            if ledger.show(cid):
                leaf = [visit]
                del visit  # nothing here keeps a block that its reader is done with
                yield leaf.pop()
            continue
        if ledger.show(cid):
            yield visit
        if found := _links(scanner, visit.data, cid):
            stack.append(iter(found))


def _links(scanner: Scanner, block: bytes, cid: Cid) -> list[Cid]:
    """All at once, so that a malformed block is an error before its first link is followed."""
    try:
        return list(scanner(block))
    except CarError as error:
        raise error.located(source=f"block {cid}") from None
