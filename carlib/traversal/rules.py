"""How a traversal goes about it: what counts as seen before, what is left out, and how much is too much."""

from __future__ import annotations

from dataclasses import dataclass

from carlib.errors import LimitExceeded


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one traversal may touch; None is no limit.  Servers set all three, boxo's depth is 1,024."""

    blocks: int | None = None
    """Blocks visited, repeated ones too where they are repeated."""
    bytes: int | None = None
    """Their bytes."""
    depth: int | None = None
    """Links followed from a root."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Defaults are those of a trustless gateway: order of first visits, each block once, identity CIDs left out."""

    duplicates: bool = False
    """Whether a block is given each time it is reached (``car-dups=y``).  A small DAG can be reached through more
    paths than there are atoms: set limits with it."""
    whole_cids: bool = False
    """Whether two CIDs of one multihash are two blocks."""
    identity: bool = False
    """Whether identity CIDs are given like any other block, as Filecoin's chain exports have them."""
    skip_missing: bool = False
    """Whether blocks that are not here are noted and gone around, instead of raising BlockNotFound."""
    unknown_is_leaf: bool = True
    """Whether blocks of a codec that we do not know have no links, instead of raising UnknownCodec."""
    limits: Limits = Limits()


class Budget:
    """What one traversal has spent of its :class:`Limits`."""

    __slots__ = ("_limits", "blocks", "bytes")

    def __init__(self, limits: Limits) -> None:
        self.blocks = self.bytes = 0
        self._limits = limits

    def spend(self, size: int, depth: int) -> None:
        """Count one block of ``size`` bytes; LimitExceeded where it is one too many."""
        self.blocks += 1
        self.bytes += size
        limits = self._limits
        if limits.blocks is not None and self.blocks > limits.blocks:
            raise LimitExceeded("number of blocks visited", self.blocks, limits.blocks)
        if limits.bytes is not None and self.bytes > limits.bytes:
            raise LimitExceeded("number of bytes visited", self.bytes, limits.bytes)
        self.check_depth(depth)

    def check_depth(self, depth: int) -> None:
        """LimitExceeded where ``depth`` links are more than may be followed; asked before a block is read."""
        if self._limits.depth is not None and depth > self._limits.depth:
            raise LimitExceeded("number of links followed from the root", depth, self._limits.depth)
