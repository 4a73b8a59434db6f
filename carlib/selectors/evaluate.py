"""A selector at work: from a root through nodes and blocks, telling what is reached and what of it matches.

The order is that of go-ipld-prime: a node before what is below it, keys in the order of the selector where it names
some and of the data where it does not.  A link is always followed to its block, never a node of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from carlib.blockstore import Blocks
from carlib.cid import Cid
from carlib.links import NAMES
from carlib.selectors.clauses import EXPLORE_ALL, MATCH_ALL, Selector, reified
from carlib.selectors.nodes import FileNode, Node, Segment, ShardNode, children, decode, reify
from carlib.traversal import Rules, Visit, Walk
from carlib.traversal.dag import walk_dag
from carlib.traversal.ledger import Ledger
from carlib.traversal.path import Passed

_Trail = (
    tuple["_Trail", Segment] | None
)  # the way from the root, last step first, shared by all that lies below


class Step(NamedTuple):
    """A node reached: ``node`` is the part that is matched where ``matched``, in the block of ``visit``."""

    node: Node
    matched: bool
    visit: Visit
    trail: _Trail
    block_trail: _Trail

    @property
    def path(self) -> str:
        """Keys and indices from the root, separated by slashes."""
        return _text(self.trail)

    @property
    def is_block(self) -> bool:
        """Whether the node is a block's root, so that a CID stands for it."""
        return self.trail is self.block_trail


def _text(trail: _Trail) -> str:
    segments = []
    while trail is not None:
        trail, segment = trail
        segments.append(str(segment))
    return "/".join(reversed(segments))


class _Below(NamedTuple):
    """A link below which everything is selected, so that no selector is needed to find it."""

    cid: Cid
    depth: int
    matched: bool


class _Place(NamedTuple):
    """Where to go: a node, or a link to one, and what to do there."""

    node: Node
    selector: Selector
    trail: _Trail
    block_trail: _Trail
    visit: Visit


class _Evaluation:
    """One selector from one root; ``once`` takes no block twice for the same purpose, and leaves what is simple to
    :func:`~carlib.traversal.dag.walk_dag`."""

    def __init__(self, ledger: Ledger, *, once: bool) -> None:
        self._ledger = ledger
        self._once = once
        self._entered: set[tuple[bytes, Selector]] = set()

    def run(self, root: Cid, selector: Selector) -> Iterator[Visit | Step | _Below]:
        nowhere = Visit(root, 0, -1, None)
        stack: list[Iterator[_Place]] = [iter((_Place(root, selector, None, None, nowhere),))]
        while stack:
            place = next(stack[-1], None)
            if place is None:
                stack.pop()
                continue
            if isinstance(place.node, Cid):
                if place.node.codec in NAMES or not self._enter(place):
                    continue
                if self._once and place.selector in (EXPLORE_ALL, MATCH_ALL):
                    yield _Below(place.node, place.visit.depth + 1, place.selector == MATCH_ALL)
                    continue
                visit = self._ledger.take(place.node, place.visit.depth + 1)
                if visit is None or visit.data is None:
                    continue
                yield visit
                node = decode(visit.cid, visit.data)
                place = _Place(node, place.selector, place.trail, place.trail, visit)
            yield from self._stop_at(place, stack)

    def _enter(self, place: _Place) -> bool:
        if not self._once or self._ledger.rules.duplicates:
            return True
        key = (place.node.raw, place.selector)
        if key in self._entered:
            return False
        self._entered.add(key)
        return True

    def _stop_at(self, place: _Place, stack: list[Iterator[_Place]]) -> Iterator[Visit | Step]:
        """Tell of the node at ``place``, and put what is selected below it on the stack."""
        node, selector, trail, block_trail, visit = place
        passed = Passed(self._ledger, visit.depth)
        if (view := reified(selector)) is not None:
            whole = trail is block_trail
            node = reify(view[0], node, visit, passed, self._ledger.blocks, whole_block=whole)
            selector = view[1]
        matched = selector.match(node)
        if isinstance(node, ShardNode):
            below = list(self._below(node, selector, place))
            yield from passed.visits
        else:
            yield from passed.visits
            below = None
        yield Step(node if matched is None else matched[0], matched is not None, visit, trail, block_trail)
        stack.append(self._below(node, selector, place) if below is None else iter(below))

    def _below(self, node: Node, selector: Selector, place: _Place) -> Iterator[_Place]:
        for segment, child in children(node, selector.interests(node)):
            following = selector.explore(node, segment, child)
            if following is not None:
                yield _Place(child, following, (place.trail, segment), place.block_trail, place.visit)


def select(blocks: Blocks, root: Cid, selector: Selector, *, rules: Rules | None = None) -> Iterator[Step]:
    """Every node that ``selector`` reaches from ``root``, matched or not, by every path that leads to it.

    A small DAG can have more paths than there are atoms: ``rules.limits`` bound the blocks loaded, repeated ones
    counted too.  Raises BlockNotFound (unless the rules skip what is missing), LimitExceeded, Malformed ….
    """
    ledger = Ledger(blocks, Rules() if rules is None else rules)
    for event in _Evaluation(ledger, once=False).run(root, selector):
        if isinstance(event, Step):
            yield event


@dataclass(frozen=True, slots=True)
class Selection:
    """The blocks that selectors reach from their roots, as a :class:`~carlib.traversal.Walkable`.

    What is matched of a UnixFS file is reached.  ``matched_only`` leaves out the blocks in which no node is matched.
    """

    blocks: Blocks
    targets: tuple[tuple[Cid, Selector], ...]
    rules: Rules = field(default_factory=Rules)
    matched_only: bool = False
    header_roots: tuple[Cid, ...] | None = None
    """Roots that a CAR of it names, where they are not those of the targets."""

    @property
    def roots(self) -> tuple[Cid, ...]:
        return tuple(root for root, _ in self.targets) if self.header_roots is None else self.header_roots

    def walk(self, *, data: bool = True) -> Walk:
        ledger = Ledger(self.blocks, self.rules, data=data)
        return Walk(ledger, self._visits(ledger))

    def _visits(self, ledger: Ledger) -> Iterator[Visit]:
        evaluation = _Evaluation(ledger, once=True)
        for root, selector in self.targets:
            for event in evaluation.run(root, selector):
                yield from self._shown(ledger, event)

    def _shown(self, ledger: Ledger, event: Visit | Step | _Below) -> Iterator[Visit]:
        match event:
            case Visit():
                if not self.matched_only and ledger.show(event.cid):
                    yield event
            case _Below():
                if event.matched or not self.matched_only:
                    yield from walk_dag(ledger, event.cid, event.depth)
            case Step() if event.matched:
                if self.matched_only and ledger.show(event.visit.cid):
                    yield event.visit
                if isinstance(event.node, FileNode):
                    yield from event.node.walk(ledger)
