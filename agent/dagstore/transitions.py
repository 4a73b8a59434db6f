"""The states of a shard, what can happen to it, what has to be done about it, and the table of its transitions.

State names are Lotus' own on the wire. `Available` and `Serving` differ only by the number of references, which end
with the process, so moving between these two is never written to disk. `docs/dagstore-states.md` is drawn from here.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NewType

from agent.dagstore.failures import ErrorClass, Failure

Waiter = NewType("Waiter", int)
"""A task that waits for an answer; each one given to `step` is answered exactly once, or withdrawn."""


class ShardState(enum.Enum):
    """The states; the value is the name on the wire and in the catalogue."""

    NEW = "ShardStateNew"  # registered lazily, nothing done yet
    INITIALIZING = "ShardStateInitializing"  # first index is being made
    AVAILABLE = "ShardStateAvailable"  # indexed, nobody uses it
    SERVING = "ShardStateServing"  # indexed, refs > 0
    RECOVERING = "ShardStateRecovering"  # index is being made again
    ERRORED = "ShardStateErrored"  # `failure` says why
    DESTROYED = "ShardStateUnknown"  # the end; never on the wire, never on disk


# Events


@dataclass(frozen=True, slots=True)
class Register:
    """Take the shard in, and do nothing before somebody needs it."""


@dataclass(frozen=True, slots=True)
class Initialise:
    """Make the first index; `waiter` (if any) is told when the shard is Available or Errored."""

    waiter: Waiter | None = None


@dataclass(frozen=True, slots=True)
class Acquire:
    """Give `waiter` a reference now, or once there is an index."""

    waiter: Waiter


@dataclass(frozen=True, slots=True)
class CalledOff:
    """All who waited for the first index of a lazy shard have gone before it was begun."""


@dataclass(frozen=True, slots=True)
class Release:
    """One reference is given back and others remain."""


@dataclass(frozen=True, slots=True)
class LastRelease:
    """The only reference is given back (what `Release` becomes at refs = 1)."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """The index of `generation` is complete on disk."""

    generation: int


@dataclass(frozen=True, slots=True)
class IndexedInUse:
    """Likewise, and somebody still holds a reference from before (what `Indexed` becomes at refs > 0)."""

    generation: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Indexing `generation`, or looking at its data, failed."""

    generation: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class FailedAgain:
    """The data of an Errored shard was looked at once more, and it is no better."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Reported:
    """Somebody found the data bad: a reader, a scrub, an operator."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Changed:
    """The data is not what was indexed, or the index is not there: make it again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Returned:
    """Data that could not be reached is back, and is what the index of `generation` or before was made from."""

    generation: int


@dataclass(frozen=True, slots=True)
class ReturnedInUse:
    """Likewise, and somebody still holds a reference from before (what `Returned` becomes at refs > 0)."""

    generation: int


@dataclass(frozen=True, slots=True)
class Recover:
    """An operator or a policy asks to try again."""

    waiter: Waiter | None = None
    reason: str = "asked for"


@dataclass(frozen=True, slots=True)
class Destroy:
    """Forget the shard; refused while it is referenced."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """`waiter` no longer waits; harmless if it was answered already."""

    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Restarted:
    """The agent came up and found the shard in this state in the catalogue."""


Event = (
    Register | Initialise | Acquire | CalledOff | Release | LastRelease | Indexed | IndexedInUse | Failed | FailedAgain
    | Reported | Changed | Returned | ReturnedInUse | Recover | Destroy | Withdraw | Restarted
)  # fmt: skip


# Effects


@dataclass(frozen=True, slots=True)
class Persist:
    """Write the record and one line of history, durably, before the effects that follow."""

    before: ShardState
    after: ShardState
    event: str
    reason: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove the record durably, then its index file."""


@dataclass(frozen=True, slots=True)
class StartIndexing:
    """Make index number `generation`, when there is room for it."""

    generation: int


@dataclass(frozen=True, slots=True)
class CancelIndexing:
    """Stop making index number `generation`, if it was begun; what it reports from now on is ignored."""

    generation: int


@dataclass(frozen=True, slots=True)
class ScheduleRetry:
    """Try again by ourselves if the policy of this failure has a retry number `attempt`, and after its delay."""

    attempt: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Grant:
    """`waiter` holds a reference now."""

    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Answer:
    """`waiter` is told how it ended: done (None) or failed; it holds nothing."""

    waiter: Waiter
    failure: Failure | None = None


Effect = Persist | Forget | StartIndexing | CancelIndexing | ScheduleRetry | Grant | Answer


@dataclass(frozen=True, slots=True)
class Life:
    """Where one shard is in its life."""

    state: ShardState = ShardState.NEW
    generation: int = 0  # number of the index that exists or is being made
    refs: int = 0
    parked: tuple[Waiter, ...] = ()  # acquirers that wait for an index, in order of arrival
    watchers: tuple[Waiter, ...] = ()  # those who wait for the outcome only
    failure: Failure | None = None
    attempts: int = 0  # failures since it was last Available
    on_demand: bool = False  # its first index is made for those alone who are parked


_S = ShardState
TRANSITIONS: dict[tuple[ShardState, type[Event]], ShardState] = {
    (_S.NEW, Register): _S.NEW,
    (_S.NEW, Initialise): _S.INITIALIZING,
    (_S.NEW, Acquire): _S.INITIALIZING,
    (_S.NEW, Destroy): _S.DESTROYED,
    (_S.NEW, Restarted): _S.NEW,
    (_S.INITIALIZING, Initialise): _S.INITIALIZING,
    (_S.INITIALIZING, Acquire): _S.INITIALIZING,
    (_S.INITIALIZING, CalledOff): _S.NEW,
    (_S.INITIALIZING, Indexed): _S.AVAILABLE,
    (_S.INITIALIZING, Failed): _S.ERRORED,
    (_S.INITIALIZING, Destroy): _S.DESTROYED,
    (_S.INITIALIZING, Restarted): _S.INITIALIZING,
    (_S.AVAILABLE, Acquire): _S.SERVING,
    (_S.AVAILABLE, Failed): _S.ERRORED,
    (_S.AVAILABLE, Reported): _S.ERRORED,
    (_S.AVAILABLE, Changed): _S.RECOVERING,
    (_S.AVAILABLE, Destroy): _S.DESTROYED,
    (_S.AVAILABLE, Restarted): _S.AVAILABLE,
    (_S.SERVING, Acquire): _S.SERVING,
    (_S.SERVING, Release): _S.SERVING,
    (_S.SERVING, LastRelease): _S.AVAILABLE,
    (_S.SERVING, Failed): _S.ERRORED,
    (_S.SERVING, Reported): _S.ERRORED,
    (_S.SERVING, Changed): _S.RECOVERING,
    (_S.SERVING, Restarted): _S.AVAILABLE,
    (_S.RECOVERING, Acquire): _S.RECOVERING,
    (_S.RECOVERING, Release): _S.RECOVERING,
    (_S.RECOVERING, LastRelease): _S.RECOVERING,
    (_S.RECOVERING, Indexed): _S.AVAILABLE,
    (_S.RECOVERING, IndexedInUse): _S.SERVING,
    (_S.RECOVERING, Failed): _S.ERRORED,
    (_S.RECOVERING, Recover): _S.RECOVERING,
    (_S.RECOVERING, Destroy): _S.DESTROYED,
    (_S.RECOVERING, Restarted): _S.RECOVERING,
    (_S.ERRORED, Acquire): _S.ERRORED,
    (_S.ERRORED, Release): _S.ERRORED,
    (_S.ERRORED, LastRelease): _S.ERRORED,
    (_S.ERRORED, FailedAgain): _S.ERRORED,
    (_S.ERRORED, Reported): _S.ERRORED,
    (_S.ERRORED, Returned): _S.AVAILABLE,
    (_S.ERRORED, ReturnedInUse): _S.SERVING,
    (_S.ERRORED, Recover): _S.RECOVERING,
    (_S.ERRORED, Destroy): _S.DESTROYED,
    (_S.ERRORED, Restarted): _S.ERRORED,
}

INDEXED_STATES = frozenset({_S.AVAILABLE, _S.SERVING})
INDEXING_STATES = frozenset({_S.INITIALIZING, _S.RECOVERING})
DESTROYED_FAILURE = Failure(ErrorClass.NOT_FOUND, "the shard was destroyed while this request waited for it")
