"""The states of a retrieval, what can happen to it, and what follows: a table.

Queued ──begin──► Fetching ──finish──► Done
  ▲                │  ▲ │
  │           pause│  │resume                 (pause: there is no way to any source)
  │                ▼  │ │fail
  └──restart──── Paused │──► Failed ──again──► Queued
                        └cancel──► Cancelled ──again──► Queued
"""

from __future__ import annotations

import enum
from typing import Final


class State(enum.Enum):
    """The value is the name on the wire and in the catalogue."""

    QUEUED = "RetrievalStateQueued"
    FETCHING = "RetrievalStateFetching"
    PAUSED = "RetrievalStatePaused"
    DONE = "RetrievalStateDone"
    FAILED = "RetrievalStateFailed"
    CANCELLED = "RetrievalStateCancelled"


class Event(enum.Enum):
    BEGIN = "begin"
    PAUSE = "pause"
    RESUME = "resume"
    FINISH = "finish"
    FAIL = "fail"
    CANCEL = "cancel"
    AGAIN = "again"  # somebody asks for it once more
    RESTART = "restart"  # the agent has begun anew


ENDED: Final = frozenset({State.DONE, State.FAILED, State.CANCELLED})
_RUNNING: Final = (State.FETCHING, State.PAUSED)

TABLE: Final[dict[tuple[State, Event], State]] = {
    (State.QUEUED, Event.BEGIN): State.FETCHING,
    (State.FETCHING, Event.PAUSE): State.PAUSED,
    (State.PAUSED, Event.RESUME): State.FETCHING,
    (State.QUEUED, Event.CANCEL): State.CANCELLED,
    (State.QUEUED, Event.FAIL): State.FAILED,
    (State.FAILED, Event.AGAIN): State.QUEUED,
    (State.CANCELLED, Event.AGAIN): State.QUEUED,
    (State.DONE, Event.AGAIN): State.QUEUED,  # for another part of the same DAG
    (State.QUEUED, Event.RESTART): State.QUEUED,
    **{(state, Event.FINISH): State.DONE for state in _RUNNING},
    **{(state, Event.FAIL): State.FAILED for state in _RUNNING},
    **{(state, Event.CANCEL): State.CANCELLED for state in _RUNNING},
    **{(state, Event.RESTART): State.QUEUED for state in _RUNNING},
}


def step(state: State, event: Event) -> State | None:
    """The next state; None where the event says nothing new to that state and is to be left alone."""
    return TABLE.get((state, event))
