"""Which blocks belong to what is asked for, in which order: depth first, each in the place of its first visit.

From a :class:`Traversal` over a :class:`~carlib.blockstore.Blocks` to a :class:`Walk`; :mod:`carlib.export` makes CARs
of it, :mod:`carlib.selectors` has traversals of another kind.
"""

from carlib.traversal.entity import ByteRange
from carlib.traversal.ledger import Visit
from carlib.traversal.path import NoSuchField
from carlib.traversal.rules import Limits, Rules
from carlib.traversal.walk import Request, Scope, Traversal, Walk, Walkable

__all__ = [
    "ByteRange",
    "Limits",
    "NoSuchField",
    "Request",
    "Rules",
    "Scope",
    "Traversal",
    "Visit",
    "Walk",
    "Walkable",
]
