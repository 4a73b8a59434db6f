"""References: blocks that lie in a user's own file instead of in the CAR.

Reading: :class:`ReferenceBlockstore` over a CAR of ours (:mod:`carlib.references.table`) or of Lotus'
(:mod:`carlib.references.lotus`).  Writing: :func:`carlib.references.packing.pack_references`.
"""

from carlib.references.store import ReferenceBlockstore
from carlib.references.target import BrokenReference, Reference, Status, Target, Targets

__all__ = ["BrokenReference", "Reference", "ReferenceBlockstore", "Status", "Target", "Targets"]
