"""Blocks as they arrive in a CAR: cut out, verified, and kept if they belong to what was asked for. Sans I/O.

A block belongs if it was asked for itself, or if one that belongs links to it. All else is dropped and counted: no
source may fill our disk with what nobody wants.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from agent.dagstore.failures import ErrorClass, ShardError
from agent.transfer.sink import Sink
from carlib import links, multihash
from carlib.cid import Cid
from carlib.errors import CarError, HashMismatch
from carlib.header import V1Header
from carlib.section import NEED_DATA, Block, SectionScanner

MOST_UNWANTED: Final = 64
"""Blocks that a source may send on end without anybody having asked for them."""


class Hopeless(ShardError):
    """A fault of this side, or of the data: no source is to blame, and none helps."""


class Lied(ShardError):
    """A source gave something else under the name of a block; it is left for good."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorClass.CORRUPT, message)


@dataclass(slots=True)
class Tally:
    """What has come of a stream."""

    blocks: int = 0  # that are new here
    bytes: int = 0  # of these
    repeated_bytes: int = 0  # that were here already
    unwanted_bytes: int = 0  # that nobody asked for

    @property
    def wasted_bytes(self) -> int:
        return self.repeated_bytes + self.unwanted_bytes


@dataclass(slots=True)
class Arriving:
    """One answer: feed it pieces, and `take` what is whole of them."""

    sink: Sink
    wanted: set[bytes]  # binary CIDs that belong and have not come; grows by the links of those that come
    max_block_bytes: int
    name: str  # of the source
    _scanner: SectionScanner = field(default_factory=SectionScanner)
    _unwanted: int = 0  # on end

    def feed(self, piece: bytes) -> None:
        self._scanner.feed(piece)

    def end(self) -> None:
        self._scanner.feed_end()

    def torn(self) -> tuple[Cid, bytes] | None:
        """The block in the middle of which it ended, and what is there of it; None if nobody asked for it."""
        found = self._scanner.torn()
        if found is None or found[0] not in self.wanted:
            return None
        return Cid(found[0]), found[1]

    def take(self) -> Tally:
        """Keeps what is whole; blocks, for a thread. Raises Lied; ShardError(corrupt) for what is no CAR; OSError."""
        tally = Tally()
        while True:
            try:
                found = self._scanner.next()
            except CarError as error:
                raise ShardError(ErrorClass.CORRUPT, f"{self.name} sent what is no CAR: {error}") from error
            if found is None or found is NEED_DATA:
                return tally
            if isinstance(found, V1Header):
                continue
            assert isinstance(found, Block)
            self._take(found, tally)

    def _take(self, block: Block, tally: Tally) -> None:
        raw, data = block.cid, block.data
        if len(data) > self.max_block_bytes:
            message = f"{self.name} sent a block of {len(data)} bytes; {self.max_block_bytes} are allowed"
            raise ShardError(ErrorClass.INVALID, f"{message} (retrieval.max_block_bytes)")
        cid = Cid(raw)
        if raw not in self.wanted:
            is_here = self.sink.has(cid)
            if is_here:
                tally.repeated_bytes += len(data)
                self._unwanted = 0
                self._follow(cid, data, verify=True)
                return
            tally.unwanted_bytes += len(data)
            self._unwanted += 1
            if self._unwanted > MOST_UNWANTED:
                raise Lied(f"{self.name} sends blocks that nobody asked for, such as {cid}")
            return
        self._unwanted = 0
        check(cid, data, self.name)
        self.wanted.discard(raw)
        if self.sink.put(cid, data, verified=True):
            tally.blocks += 1
            tally.bytes += len(data)
        else:
            tally.repeated_bytes += len(data)
        self._follow(cid, data, verify=False)

    def _follow(self, cid: Cid, data: bytes, *, verify: bool) -> None:
        """What a block links to belongs, unless it is here."""
        if links.scanner_of(cid.codec) is None:
            return
        if verify:
            check(cid, data, self.name)
        try:
            for child in links.links(cid, data):
                if not child.is_identity and not self.sink.has(child):
                    self.wanted.add(child.raw)
        except CarError as error:  # it is what its CID says, and no such node: whoever reads it is told
            raise Hopeless(ErrorClass.CORRUPT, f"{cid} is not a sound node: {error}") from error


def check(cid: Cid, data: bytes, name: str) -> None:
    """Raises Lied where the data are not what the CID says."""
    try:
        multihash.check(cid, data)
    except HashMismatch:
        raise Lied(f"{name} gave wrong data for block {cid}") from None
    except CarError as error:
        raise Hopeless(ErrorClass.INVALID, f"{cid} cannot be verified: {error}") from error
