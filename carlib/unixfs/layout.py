"""How the leaves of a file become one node: balanced and trickle trees, in one pass, with one path of nodes in memory.

Source: go's boxo, ``ipld/unixfs/importer/{balanced,trickle}``, as the known answers prove it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from typing import Final, Protocol, TypeVar

from carlib.unixfs.profile import Layout

Child = TypeVar("Child")
Join = Callable[[list[Child], bool], Child]
"""Makes the inner node over some children; True for the root of the file."""

_TRICKLE_REPEAT: Final = 4


class Arrange(Protocol):
    """One layout: leaves in order, links of a node at most, and what makes a node."""

    def __call__(self, leaves: Iterable[Child], width: int, join: Join[Child]) -> Child: ...


def balanced(leaves: Iterable[Child], width: int, join: Join[Child]) -> Child:
    """All leaves at one depth; a single leaf is the file itself.  ValueError without leaves.

    A full level is joined only when one more child comes, so that the last node made is the root and known to be.
    """
    levels: list[list[Child]] = [[]]

    def add(child: Child, level: int) -> None:
        if level == len(levels):
            levels.append([])
        if len(levels[level]) == width:
            full, levels[level] = levels[level], []
            add(join(full, False), level + 1)
        levels[level].append(child)

    for leaf in leaves:
        add(leaf, 0)
    if not levels[0]:
        raise ValueError("a file has one leaf at least")
    level = 0
    while level < len(levels) - 1:
        add(join(levels[level], False), level + 1)
        level += 1
    top = levels[-1]
    return top[0] if len(top) == 1 else join(top, True)


def trickle(leaves: Iterable[Child], width: int, join: Join[Child]) -> Child:
    """Leaves directly below the root first, then ever deeper subtrees: made for reading from the start."""
    return _trickle(_Source(iter(leaves)), width, None, join)


def _trickle(source: _Source[Child], width: int, depth: int | None, join: Join[Child]) -> Child:
    children = list(islice(source, width))
    for level in count(1):
        if level == depth or source.is_done():
            break
        for _ in range(_TRICKLE_REPEAT):
            if source.is_done():
                break
            children.append(_trickle(source, width, level, join))
    return join(children, depth is None)


class _Source(Iterator[Child]):
    """An iterator that can tell whether anything is left."""

    def __init__(self, source: Iterator[Child]) -> None:
        self._source = source
        self._ahead: list[Child] = []

    def is_done(self) -> bool:
        if not self._ahead:
            self._ahead += islice(self._source, 1)
        return not self._ahead

    def __next__(self) -> Child:
        if self.is_done():
            raise StopIteration
        return self._ahead.pop()


LAYOUTS: Final[dict[Layout, Arrange]] = {Layout.BALANCED: balanced, Layout.TRICKLE: trickle}
