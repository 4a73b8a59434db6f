"""A storage deal as a value: what is proposed, what the catalogue keeps, and the same as it goes over the wire."""

from __future__ import annotations

from datetime import datetime

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.urls import shown
from agent.market.transitions import State
from carlib.cid import Cid
from carlib.errors import CarError
from carlib.piece import cids
from carlib.piece.cids import Piece
from carlib.piece.sizes import height_of

MAX_LABEL_BYTES = 256


class Proposal(msgspec.Struct, frozen=True, rename="pascal"):
    """What a client asks a provider to store. `PieceCID` of either version; `PieceSize` in padded bytes; `Source`: a
    URL that the DAG is fetched from, a gateway or another agent; "": an offline deal, whose CAR somebody brings.
    `EndsAt`: RFC 3339; "": when somebody says so. `UUID`: the client's own name of it; the same again is the same
    deal."""

    root: str
    piece_cid: str = msgspec.field(name="PieceCID")
    piece_size: int
    source: str = ""
    label: str = ""
    ends_at: str = ""
    uuid: str = msgspec.field(name="UUID", default="")

    def checked(self) -> Proposal:
        """With CIDs in their usual spelling; raises ShardError(invalid)."""
        try:
            root = Cid.parse(self.root)
            height_of(self.piece_size)
            digest = cids.root_of(Cid.parse(self.piece_cid))
        except (CarError, ValueError) as error:
            raise ShardError(ErrorClass.INVALID, f"this is no proposal: {error}") from None
        if len(self.label.encode(errors="replace")) > MAX_LABEL_BYTES:
            raise ShardError(ErrorClass.INVALID, f"a label has at most {MAX_LABEL_BYTES} bytes")
        if self.source and not self.source.startswith(("http://", "https://")):
            message = f"a source is a URL such as https://host:8480, not {shown(self.source)}"
            raise ShardError(ErrorClass.INVALID, message)
        self.end()
        piece = str(Piece(digest, 0).v1)
        return msgspec.structs.replace(self, root=str(root), piece_cid=piece)

    def end(self) -> datetime | None:
        """When it ends by itself; raises ShardError(invalid)."""
        if not self.ends_at:
            return None
        try:
            found = datetime.fromisoformat(self.ends_at)
        except ValueError:
            found = None
        if found is None or found.tzinfo is None:
            message = f"{self.ends_at!r} is no time with a zone, such as 2030-01-31T12:00:00Z"
            raise ShardError(ErrorClass.INVALID, message)
        return found


class Placed(msgspec.Struct, frozen=True):
    """Where the piece lies; offset and size in padded bytes."""

    sector: int
    file: str
    offset: int
    size: int


class DealRow(msgspec.Struct, frozen=True):
    """What the catalogue keeps."""

    id: int  # nanoseconds of the clock when it was proposed, and rising
    proposal: Proposal
    client: str  # who proposed it, for people
    state: State
    created: str  # RFC 3339, UTC
    updated: str
    error: str = ""
    error_class: ErrorClass | None = None
    car: str = ""  # the CAR that was staged, or brought; "": none (any more)
    payload_size: int | None = None  # of that CAR
    placed: Placed | None = None
    released: bool = True  # nothing is left to be taken back of one that has ended

    @property
    def piece(self) -> Cid:
        return Cid.parse(self.proposal.piece_cid)


class DealRecord(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """RECORD on the wire; what is not known (yet) is null."""

    id: int = msgspec.field(name="ID")
    state: str
    root: str
    piece_cid: str = msgspec.field(name="PieceCID")
    piece_size: int
    payload_size: int | None
    source: str
    label: str
    client: str
    ends_at: str
    uuid: str = msgspec.field(name="UUID")
    sector: int | None
    offset: int | None
    error: str
    error_class: str
    created: str
    updated: str

    @classmethod
    def of(cls, row: DealRow) -> DealRecord:
        proposal, placed = row.proposal, row.placed
        return cls(
            id=row.id,
            state=row.state.value,
            root=proposal.root,
            piece_cid=proposal.piece_cid,
            piece_size=proposal.piece_size,
            payload_size=row.payload_size,
            source=shown(proposal.source),
            label=proposal.label,
            client=row.client,
            ends_at=proposal.ends_at,
            uuid=proposal.uuid,
            sector=None if placed is None else placed.sector,
            offset=None if placed is None else placed.offset,
            error=row.error,
            error_class=row.error_class.value if row.error_class else "",
            created=row.created,
            updated=row.updated,
        )
