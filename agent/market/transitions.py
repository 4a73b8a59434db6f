"""The states of a storage deal, by the names of go-fil-markets, what can happen to it, and what follows: a table.

Validating ──accept──► Transferring ──arrived──┐
     │  └────wait────► WaitingForData ──given──┤        (an offline deal: somebody brings the CAR)
     │reject                                   ▼
     ▼                                     VerifyData ──verified──► Staged ──packed──► AwaitingPreCommit
 Rejected                                                                                  │precommitted
                                                                                           ▼
          Expired ◄──expire── Active ◄──activate── Finalizing ◄──sealed── Sealing ◄────────┘

From every state before Active `fail` leads to Error, and `again` from there to Validating.  What is under way when the
agent ends stays where it is, and goes on from there.
"""

from __future__ import annotations

import enum
from typing import Final


class State(enum.Enum):
    """The value is the name on the wire and in the catalogue; the names are go-fil-markets' (storagemarket)."""

    VALIDATING = "StorageDealValidating"
    REJECTED = "StorageDealProposalRejected"
    TRANSFERRING = "StorageDealTransferring"
    WAITING_FOR_DATA = "StorageDealWaitingForData"
    VERIFY_DATA = "StorageDealVerifyData"
    STAGED = "StorageDealStaged"
    AWAITING_PRECOMMIT = "StorageDealAwaitingPreCommit"
    SEALING = "StorageDealSealing"
    FINALIZING = "StorageDealFinalizing"
    ACTIVE = "StorageDealActive"
    EXPIRED = "StorageDealExpired"
    ERROR = "StorageDealError"


class Event(enum.Enum):
    ACCEPT = "accept"
    WAIT = "wait"
    REJECT = "reject"
    ARRIVED = "arrived"
    GIVEN = "given"
    VERIFIED = "verified"
    PACKED = "packed"
    PRECOMMITTED = "precommitted"
    SEALED = "sealed"
    ACTIVATE = "activate"
    EXPIRE = "expire"
    FAIL = "fail"
    AGAIN = "again"


ENDED: Final = frozenset({State.REJECTED, State.EXPIRED, State.ERROR})
RESTING: Final = ENDED | {State.ACTIVE, State.WAITING_FOR_DATA}
"""Nothing is done about these until somebody says something."""
HANDED_OFF: Final = frozenset({State.AWAITING_PRECOMMIT, State.SEALING, State.FINALIZING, State.ACTIVE})
"""The piece is in a sector for these."""
_UNDER_WAY: Final = (
    State.VALIDATING, State.TRANSFERRING, State.WAITING_FOR_DATA, State.VERIFY_DATA, State.STAGED,
    State.AWAITING_PRECOMMIT, State.SEALING, State.FINALIZING,
)  # fmt: skip

TABLE: Final[dict[tuple[State, Event], State]] = {
    (State.VALIDATING, Event.ACCEPT): State.TRANSFERRING,
    (State.VALIDATING, Event.WAIT): State.WAITING_FOR_DATA,
    (State.VALIDATING, Event.REJECT): State.REJECTED,
    (State.TRANSFERRING, Event.ARRIVED): State.VERIFY_DATA,
    (State.WAITING_FOR_DATA, Event.GIVEN): State.VERIFY_DATA,
    (State.VERIFY_DATA, Event.VERIFIED): State.STAGED,
    (State.STAGED, Event.PACKED): State.AWAITING_PRECOMMIT,
    (State.AWAITING_PRECOMMIT, Event.PRECOMMITTED): State.SEALING,
    (State.SEALING, Event.SEALED): State.FINALIZING,
    (State.FINALIZING, Event.ACTIVATE): State.ACTIVE,
    (State.ERROR, Event.AGAIN): State.VALIDATING,
    **{(state, Event.FAIL): State.ERROR for state in _UNDER_WAY},
    **{(state, Event.EXPIRE): State.EXPIRED for state in (*_UNDER_WAY, State.ACTIVE, State.ERROR)},
}


def step(state: State, event: Event) -> State | None:
    """The next state; None where the event says nothing to that state."""
    return TABLE.get((state, event))
