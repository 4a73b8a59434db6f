"""The clauses of IPLD selectors, and what each does at a node: does it match, and what comes next below it.

Source: IPLD, Selectors; where that leaves room, go-ipld-prime ``traversal/selector``, so that the same selector gives
the same blocks.  Clauses are values: two that are equal select the same, which is how a block is not gone through
twice for one purpose.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from carlib.cid import Cid
from carlib.errors import LimitExceeded
from carlib.selectors.nodes import Node, Segment, length_of

MAX_ALTERNATIVES: Final = 1024
"""Clauses at work at one node; nested recursions could multiply them."""

Interests = Iterable[Segment] | None
"""Where to look below a node, or None for everywhere."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """Matches any node; with ``subset`` the part of a string or of bytes from one place up to another."""

    subset: tuple[int, int] | None = None

    def match(self, node: Node) -> tuple[Node] | None:
        """The node that is matched, in a tuple of its own, or None."""
        if self.subset is None:
            return (node,)
        size = length_of(node)
        if size is None:
            return None
        start, stop = self.subset
        stop = size + stop if stop < 0 else min(stop, size)
        start = max(0, size + start) if start < 0 else start
        if start > stop or start >= size:
            return None
        if isinstance(node, str):  # go counts the bytes of strings, not their characters
            part = node.encode("utf-8", "surrogateescape")[start:stop]
            return (part.decode("utf-8", "surrogateescape"),)
        return (node[start:stop],)

    def interests(self, _node: Node) -> Interests:
        return ()

    def explore(self, _node: Node, _segment: Segment, _child: Node) -> Selector | None:
        return None


@dataclass(frozen=True, slots=True)
class All:
    """Everything directly below."""

    next: Selector

    def match(self, _node: Node) -> tuple[Node] | None:
        return None

    def interests(self, _node: Node) -> Interests:
        return None

    def explore(self, _node: Node, _segment: Segment, _child: Node) -> Selector | None:
        return self.next


@dataclass(frozen=True, slots=True)
class Fields:
    """What lies under these keys, in this order; a key that is a number is an index in a list."""

    fields: tuple[tuple[str, Selector], ...]
    _by_name: dict[str, Selector] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", dict(self.fields))

    def match(self, _node: Node) -> tuple[Node] | None:
        return None

    def interests(self, _node: Node) -> Interests:
        return self._by_name

    def explore(self, _node: Node, segment: Segment, _child: Node) -> Selector | None:
        return self._by_name.get(str(segment))


@dataclass(frozen=True, slots=True)
class Range:
    """Elements ``start`` to ``stop`` (excluded) of a list; an index is a range of one."""

    start: int
    stop: int
    next: Selector

    def match(self, _node: Node) -> tuple[Node] | None:
        return None

    def interests(self, node: Node) -> Interests:
        if not isinstance(node, list):
            return ()
        return range(max(0, self.start), min(self.stop, len(node)))

    def explore(self, node: Node, segment: Segment, _child: Node) -> Selector | None:
        if not isinstance(node, list):
            return None
        return self.next if self.start <= int(segment) < self.stop else None


@dataclass(frozen=True, slots=True)
class Edge:
    """The place in a recursion where it begins anew."""

    def match(self, _node: Node) -> tuple[Node] | None:
        return None

    def interests(self, _node: Node) -> Interests:
        return ()

    def explore(self, _node: Node, _segment: Segment, _child: Node) -> Selector | None:
        return None


@dataclass(frozen=True, slots=True)
class InterpretAs:
    """The node below as what it stands for, by the name of that view; see :mod:`carlib.selectors.nodes`."""

    view: str
    next: Selector

    def match(self, _node: Node) -> tuple[Node] | None:
        return None

    def interests(self, _node: Node) -> Interests:
        return ()

    def explore(self, _node: Node, _segment: Segment, _child: Node) -> Selector | None:
        return None


@dataclass(frozen=True, slots=True)
class Union:
    """Several selectors at once; made by :func:`union`, which keeps each but once."""

    members: tuple[Selector, ...]

    def match(self, node: Node) -> tuple[Node] | None:
        for member in self.members:
            if (matched := member.match(node)) is not None:
                return matched
        return None

    def interests(self, node: Node) -> Interests:
        segments: dict[str, Segment] = {}
        for member in self.members:
            found = member.interests(node)
            if found is None:
                return None
            for segment in found:
                segments.setdefault(str(segment), segment)
        return segments.values()

    def explore(self, node: Node, segment: Segment, child: Node) -> Selector | None:
        return union(member.explore(node, segment, child) for member in self.members)


@dataclass(frozen=True, slots=True)
class Recursive:
    """``sequence`` again at each edge in it, ``depth`` times at most; ``current`` is how far this round has come.

    Links to ``stop_at`` are not followed.
    """

    sequence: Selector
    current: Selector
    depth: int | None = None
    stop_at: Cid | None = None

    def match(self, node: Node) -> tuple[Node] | None:
        return self.current.match(node)

    def interests(self, node: Node) -> Interests:
        return self.current.interests(node)

    def explore(self, node: Node, segment: Segment, child: Node) -> Selector | None:
        if self.stop_at is not None and child == self.stop_at:
            return None
        following = self.current.explore(node, segment, child)
        if following is None:
            return None
        if not _has_edge(following):
            return replace(self, current=following)
        if self.depth is None:
            return replace(self, current=_at_edge(following, self.sequence))
        if self.depth < 2:
            return _without_edge(
                following
            )  # the last round is over, and what is beside the edge is on its own
        return replace(self, current=_at_edge(following, self.sequence), depth=self.depth - 1)


Selector = Matcher | All | Fields | Range | Edge | InterpretAs | Union | Recursive


def union(members: Iterable[Selector | None]) -> Selector | None:
    """What selects all that ``members`` select: None for nothing, the one itself, or a flat :class:`Union`."""
    flat: dict[Selector, None] = {}
    for member in members:
        if isinstance(member, Union):
            flat.update(dict.fromkeys(member.members))
        elif member is not None:
            flat[member] = None
    if len(flat) > MAX_ALTERNATIVES:
        raise LimitExceeded("number of selectors at work at one node", len(flat), MAX_ALTERNATIVES)
    return Union(tuple(flat)) if len(flat) > 1 else next(iter(flat), None)


def _has_edge(selector: Selector) -> bool:
    return isinstance(selector, Edge) or (
        isinstance(selector, Union) and any(isinstance(member, Edge) for member in selector.members)
    )


def _at_edge(selector: Selector, replacement: Selector) -> Selector:
    """``selector`` with ``replacement`` for its edges."""
    if isinstance(selector, Edge):
        return replacement
    if isinstance(selector, Union):
        members = (replacement if isinstance(member, Edge) else member for member in selector.members)
        return union(members) or replacement
    return selector


def _without_edge(selector: Selector) -> Selector | None:
    """What of ``selector`` is left when its edges lead nowhere."""
    if isinstance(selector, Edge):
        return None
    if isinstance(selector, Union):
        return union(member for member in selector.members if not isinstance(member, Edge))
    return selector


def reified(selector: Selector) -> tuple[str, Selector] | None:
    """The view that ``selector`` wants of the node it stands at, and how to go on in it; None for the plain node."""
    if isinstance(selector, InterpretAs):
        return selector.view, selector.next
    if isinstance(selector, Recursive) and isinstance(selector.current, InterpretAs):
        return selector.current.view, replace(selector, current=selector.current.next)
    return None


EXPLORE_ALL: Final = Recursive(All(Edge()), All(Edge()))
"""Everything below, nothing of it matched (go: ``CommonSelector_ExploreAllRecursively``)."""
_MATCHING: Final = Union((Matcher(), All(Edge())))
MATCH_ALL: Final = Recursive(_MATCHING, _MATCHING)
"""Everything below, all of it matched (go: ``CommonSelector_MatchAllRecursively``)."""
