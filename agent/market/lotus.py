"""Deals as Lotus' tools print them (`MarketListIncompleteDeals` and its like), and what of them becomes a shard. Pure.

Taken is JSON: an array, an object a line, or what an RPC answers (`{"result": […]}`).  Of each deal count its piece
CID, at `PieceCID`, `Ref.PieceCid` or `Proposal.PieceCID`, as text or `{"/": …}`; `State`, a name or the number of
go-fil-markets; and, where the sector is on this machine, `SectorFile`, `Offset`, `Length` (padded bytes) and
`PayloadSize`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.dagstore.failures import ErrorClass, ShardError
from carlib.cid import Cid
from carlib.errors import CarError
from carlib.piece import cids
from carlib.piece.cids import Piece
from carlib.piece.sector import Placement

Json = Any  # any value that JSON can carry

STATES: Final = (
    "Unknown", "ProposalNotFound", "ProposalRejected", "ProposalAccepted", "Staged", "Sealing", "Finalizing", "Active",
    "Expired", "Slashed", "Rejecting", "Failing", "FundsReserved", "CheckForAcceptance", "Validating", "AcceptWait",
    "StartDataTransfer", "Transferring", "WaitingForData", "VerifyData", "ReserveProviderFunds", "ReserveClientFunds",
    "ProviderFunding", "ClientFunding", "Publish", "Publishing", "Error", "ProviderTransferAwaitRestart",
    "ClientTransferRestart", "AwaitingPreCommit", "TransferQueued",
)  # fmt: skip
"""By number; on the wire with "StorageDeal" before it (go-fil-markets, storagemarket/dealstatus.go)."""
READY: Final = frozenset({"Staged", "AwaitingPreCommit", "Sealing", "Finalizing", "Active"})
"""Of these the sealing subsystem has the piece."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a piece lies in an unsealed sector of this machine."""

    file: str
    placement: Placement
    payload: int | None


@dataclass(frozen=True, slots=True)
class Found:
    """One deal of the export: its piece by the v1 CID, "" with the reason in `error` if it says none."""

    number: int  # in the export, from 1
    piece: str
    state: str
    place: Place | None = None
    error: str = ""

    @property
    def is_ready(self) -> bool:
        return self.state in READY


def parse(text: bytes) -> list[Found]:
    """All deals, in order; what one lacks is in its `error`. Raises ShardError(invalid) for what is no such export."""
    found = []
    for number, one in enumerate(_documents(text), 1):
        try:
            found.append(_deal(number, one))
        except (CarError, KeyError, TypeError, ValueError) as error:
            found.append(Found(number, "", "", error=_reason(error)))
    return found


def _documents(text: bytes) -> Iterator[Json]:
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    if isinstance(whole, Mapping) and "result" in whole:
        whole = whole["result"]
    if isinstance(whole, list):
        yield from whole
        return
    if isinstance(whole, Mapping):
        yield whole
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except ValueError as error:
            message = (
                f"line {number} is no JSON ({error}); give what Lotus' tools print of its deals, as JSON"
            )
            raise ShardError(ErrorClass.INVALID, message) from None


def _deal(number: int, one: Json) -> Found:
    if not isinstance(one, Mapping):
        raise TypeError("it is no object")
    given = (
        one.get("PieceCID")
        or (one.get("Ref") or {}).get("PieceCid")
        or (one.get("Proposal") or {}).get("PieceCID")
    )
    if not given:
        raise KeyError("it has no PieceCID")
    text = given["/"] if isinstance(given, Mapping) else given
    piece = str(Piece(cids.root_of(Cid.parse(str(text))), 0).v1)
    state = one.get("State", "")
    if isinstance(state, int):
        state = STATES[state] if 0 <= state < len(STATES) else str(state)
    state = str(state).removeprefix("StorageDeal")
    return Found(number, piece, state, _place(one))


def _place(one: Mapping[str, Json]) -> Place | None:
    if not one.get("SectorFile"):
        return None
    payload = one.get("PayloadSize")
    placement = Placement.parse(int(one.get("Offset") or 0), int(one["Length"]))
    return Place(str(one["SectorFile"]), placement, None if payload is None else int(payload))


def _reason(error: Exception) -> str:
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
