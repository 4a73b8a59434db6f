"""A traversal as a whole: which roots, which way and how far, and the walk that carries it out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from carlib.blockstore import Blocks
from carlib.cid import Cid
from carlib.traversal.dag import walk_dag
from carlib.traversal.entity import ByteRange, walk_entity
from carlib.traversal.ledger import Ledger, Visit
from carlib.traversal.path import follow
from carlib.traversal.rules import Rules


class Scope(Enum):
    """How far below the end of the path (``dag-scope`` of a trustless gateway)."""

    BLOCK = "block"
    """The one block there."""
    ENTITY = "entity"
    """The file, or the directory with all its shards but no children; one block of anything else."""
    ALL = "all"
    """Everything."""


@dataclass(frozen=True, slots=True)
class Request:
    """One root, a path of stored names below it, and how far to go from there; a range implies ENTITY."""

    root: Cid
    path: tuple[bytes, ...] = ()
    scope: Scope = Scope.ALL
    entity_bytes: ByteRange | None = None


class Walk(Iterator[Visit]):
    """The blocks of one traversal as they are reached, once through.

    ``missing`` grows on the way where the rules skip what is missing; ``blocks`` and ``bytes`` count what was visited,
    which is more than was given where the rules leave blocks out.
    """

    def __init__(self, ledger: Ledger, visits: Iterator[Visit]) -> None:
        self._ledger = ledger
        self._visits = visits

    def __next__(self) -> Visit:
        return next(self._visits)

    @property
    def missing(self) -> tuple[Cid, ...]:
        return tuple(self._ledger.missing)

    @property
    def blocks(self) -> int:
        return self._ledger.budget.blocks

    @property
    def bytes(self) -> int:
        return self._ledger.budget.bytes


class Walkable(Protocol):
    """What can be walked again and again to the same end; an export walks it twice."""

    @property
    def roots(self) -> tuple[Cid, ...]:
        """What stands in the header of a CAR of it."""

    def walk(self, *, data: bool = True) -> Walk:
        """The blocks in order; without ``data`` only as much is read as it takes to find them, and leaves are not."""


@dataclass(frozen=True, slots=True)
class Traversal:
    """Requests over one store, one after the other and with common books: what one has given the next leaves out."""

    blocks: Blocks
    requests: tuple[Request, ...]
    rules: Rules = field(default_factory=Rules)

    @classmethod
    def of(cls, blocks: Blocks, *roots: Cid, rules: Rules | None = None) -> Traversal:
        """All that is below ``roots``."""
        return cls(blocks, tuple(Request(root) for root in roots), Rules() if rules is None else rules)

    @property
    def roots(self) -> tuple[Cid, ...]:
        return tuple(request.root for request in self.requests)

    def walk(self, *, data: bool = True) -> Walk:
        """Raises CarErrors as they are met: BlockNotFound, NoSuchEntry, NotUnixFs, LimitExceeded, Malformed …"""
        ledger = Ledger(self.blocks, self.rules, data=data)
        return Walk(ledger, self._visits(ledger))

    def _visits(self, ledger: Ledger) -> Iterator[Visit]:
        for request in self.requests:
            cid, depth = yield from follow(ledger, request.root, request.path)
            if request.entity_bytes is not None or request.scope is Scope.ENTITY:
                yield from walk_entity(ledger, cid, depth, request.entity_bytes)
            elif request.scope is Scope.ALL:
                yield from walk_dag(ledger, cid, depth)
            else:
                visit = ledger.take(cid, depth, inner=False)
                if visit is not None and ledger.show(cid):
                    yield visit
