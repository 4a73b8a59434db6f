"""The states of an import, what can happen to it, what has to be done about it, and the table of its transitions.

An import is there completely or not at all: until it is `Ready` nobody reads from it. One that somebody waits for is
forgotten when it fails or when he leaves, since he is told; one that was left to itself stays, with its error, until it
is removed.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NewType

from agent.dagstore.failures import ErrorClass, Failure

Waiter = NewType("Waiter", int)
"""A task that waits for an import to be made; each is answered exactly once, or withdrawn."""

CANCELLED = Failure(ErrorClass.CANCELLED, "the import was cancelled")


class ImportState(enum.Enum):
    """The states; the value is the name on the wire and in the catalogue."""

    ABSENT = "ImportStateUnknown"  # not there yet, or not any more; never on the wire, never on disk
    IMPORTING = "ImportStateImporting"  # being made
    READY = "ImportStateReady"  # whole, as far as is known
    STALE = "ImportStateStale"  # some of the referenced files are not as they were; the rest can be read
    BROKEN = "ImportStateBroken"  # `failure` says why


# Events


@dataclass(frozen=True, slots=True)
class Begin:
    """Make it; `waiter` (if any) is told when that is done."""

    waiter: Waiter | None = None


@dataclass(frozen=True, slots=True)
class Join:
    """`waiter` is told when it is made, at once if it is."""

    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Withdraw:
    """`waiter` no longer waits and others do, or it was left to itself; harmless if it was answered already."""

    waiter: Waiter


@dataclass(frozen=True, slots=True)
class WithdrawLast:
    """The last one who waited has gone (what `Withdraw` becomes then)."""

    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Made:
    """Making number `generation` is complete on disk."""

    generation: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Making number `generation` failed; `existing`: the import that has the same root, if that is why."""

    generation: int
    failure: Failure
    existing: int = 0


@dataclass(frozen=True, slots=True)
class FailedAttended:
    """Likewise, and somebody is told (what `Failed` becomes then)."""

    generation: int
    failure: Failure
    existing: int = 0


@dataclass(frozen=True, slots=True)
class Cancel:
    """Somebody calls the making off."""


@dataclass(frozen=True, slots=True)
class FoundFine:
    """All that was looked at is as it was when `generation` was made."""

    generation: int


@dataclass(frozen=True, slots=True)
class FoundStale:
    """`count` files, `files` the first of them, are not as they were."""

    generation: int
    files: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class FoundBroken:
    """The CAR, its index or its table of references is gone or damaged."""

    generation: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Remade:
    """It was repaired, or the CAR was made another one of the same root."""

    reason: str


@dataclass(frozen=True, slots=True)
class Acquire:
    """Somebody reads from it."""


@dataclass(frozen=True, slots=True)
class Release:
    """He does no more."""


@dataclass(frozen=True, slots=True)
class Remove:
    """Forget it, and remove what is ours of it; refused while it is referenced."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """The agent came up and found the import in this state in the catalogue."""


@dataclass(frozen=True, slots=True)
class RestartedAttended:
    """Likewise, and who waited for it was told that the agent had gone (what `Restarted` becomes then)."""


Event = (
    Begin | Join | Withdraw | WithdrawLast | Made | Failed | FailedAttended | Cancel | FoundFine | FoundStale
    | FoundBroken | Remade | Acquire | Release | Remove | Restarted | RestartedAttended
)  # fmt: skip


# Effects


@dataclass(frozen=True, slots=True)
class Persist:
    """Write the row, durably, before the effects that follow."""

    before: ImportState
    after: ImportState
    event: str
    reason: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove the row durably, then the files that are ours."""


@dataclass(frozen=True, slots=True)
class StartMaking:
    """Make it, number `generation`."""

    generation: int


@dataclass(frozen=True, slots=True)
class StopMaking:
    """Call making number `generation` off, and remove what it has left."""

    generation: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Tell `waiter` that it is made, or why not; `existing` has the same root."""

    waiter: Waiter
    failure: Failure | None = None
    existing: int = 0


@dataclass(frozen=True, slots=True)
class Publish:
    """Nothing is to be written, but what others see has changed."""


Effect = Persist | Forget | StartMaking | StopMaking | Answer | Publish


@dataclass(frozen=True, slots=True)
class Life:
    """Where an import is in its life; `attended`: it is made for those who wait for it."""

    state: ImportState
    generation: int = 0
    refs: int = 0
    attended: bool = False
    failure: Failure | None = None
    stale: tuple[str, ...] = ()  # the first of the files that are not as they were
    stale_count: int = 0
    watchers: tuple[Waiter, ...] = ()


_S = ImportState
MADE_STATES = (_S.READY, _S.STALE, _S.BROKEN)
READABLE_STATES = (_S.READY, _S.STALE)

TRANSITIONS: dict[tuple[ImportState, type[Event]], ImportState] = {
    (_S.ABSENT, Begin): _S.IMPORTING,
    (_S.IMPORTING, Join): _S.IMPORTING,
    (_S.IMPORTING, Withdraw): _S.IMPORTING,
    (_S.IMPORTING, WithdrawLast): _S.ABSENT,
    (_S.IMPORTING, Made): _S.READY,
    (_S.IMPORTING, Failed): _S.BROKEN,
    (_S.IMPORTING, FailedAttended): _S.ABSENT,
    (_S.IMPORTING, Cancel): _S.ABSENT,
    (_S.IMPORTING, Remove): _S.ABSENT,
    (_S.IMPORTING, Restarted): _S.IMPORTING,
    (_S.IMPORTING, RestartedAttended): _S.ABSENT,
    **{
        (state, event): after
        for state in MADE_STATES
        for event, after in (
            (Join, state),
            (Release, state),
            (FoundFine, _S.READY),
            (FoundStale, _S.STALE),
            (FoundBroken, _S.BROKEN),
            (Remade, _S.READY),
            (Remove, _S.ABSENT),
            (Restarted, state),
        )
    },
    (_S.READY, Acquire): _S.READY,
    (_S.STALE, Acquire): _S.STALE,
}
"""What is not in it is a mistake of the caller's, and changes nothing."""
