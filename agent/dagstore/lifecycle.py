"""A shard's life as a table: states, events, effects, and the one function that takes a step.

Pure: no clock, no await, no log. `steps.py` feeds events in and carries the effects out in the order in which they
are returned; the model test drives the same function with random events.

State names are Lotus' own on the wire. `Available` and `Serving` differ only by the number of references, which end
with the process, so moving between these two is never written to disk.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class Initialise:
    """Make the first index; `waiter` (if any) is told when the shard is Available or Errored."""

    waiter: Waiter | None = None


@dataclass(frozen=True, slots=True)
class Acquire:
    """Give `waiter` a reference now, or once there is an index."""

    waiter: Waiter


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
    """An operator (or a policy) asks to try again."""

    waiter: Waiter | None = None


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
    Initialise | Acquire | Release | LastRelease | Indexed | IndexedInUse | Failed | Changed | Returned
    | ReturnedInUse | Recover | Destroy | Withdraw | Restarted
)  # fmt: skip


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
    """Make index number `generation`."""

    generation: int


@dataclass(frozen=True, slots=True)
class CancelIndexing:
    """Stop making index number `generation`; what it reports from now on is ignored."""

    generation: int


@dataclass(frozen=True, slots=True)
class Grant:
    """`waiter` holds a reference now."""

    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Answer:
    """`waiter` is told how it ended: done (None) or failed; it holds nothing."""

    waiter: Waiter
    failure: Failure | None = None


Effect = Persist | Forget | StartIndexing | CancelIndexing | Grant | Answer


@dataclass(frozen=True, slots=True)
class Life:
    """Where one shard is in its life."""

    state: ShardState = ShardState.NEW
    generation: int = 0  # number of the index that exists or is being made
    refs: int = 0
    parked: tuple[Waiter, ...] = ()  # acquirers that wait for an index, in order of arrival
    watchers: tuple[Waiter, ...] = ()  # those who wait for the outcome only
    failure: Failure | None = None


class IllegalEvent(Exception):
    """This event cannot happen in this state; nothing was changed. The caller's mistake."""

    def __init__(self, life: Life, event: Event) -> None:
        super().__init__(
            f"{type(event).__name__} is not possible in {life.state.value} with {life.refs} references"
        )
        self.life = life
        self.event = event


_S = ShardState
TRANSITIONS: dict[tuple[ShardState, type[Event]], ShardState] = {
    (_S.NEW, Initialise): _S.INITIALIZING,
    (_S.NEW, Acquire): _S.INITIALIZING,
    (_S.NEW, Destroy): _S.DESTROYED,
    (_S.NEW, Restarted): _S.NEW,
    (_S.INITIALIZING, Initialise): _S.INITIALIZING,
    (_S.INITIALIZING, Acquire): _S.INITIALIZING,
    (_S.INITIALIZING, Indexed): _S.AVAILABLE,
    (_S.INITIALIZING, Failed): _S.ERRORED,
    (_S.INITIALIZING, Destroy): _S.DESTROYED,
    (_S.INITIALIZING, Restarted): _S.INITIALIZING,
    (_S.AVAILABLE, Acquire): _S.SERVING,
    (_S.AVAILABLE, Failed): _S.ERRORED,
    (_S.AVAILABLE, Changed): _S.RECOVERING,
    (_S.AVAILABLE, Destroy): _S.DESTROYED,
    (_S.AVAILABLE, Restarted): _S.AVAILABLE,
    (_S.SERVING, Acquire): _S.SERVING,
    (_S.SERVING, Release): _S.SERVING,
    (_S.SERVING, LastRelease): _S.AVAILABLE,
    (_S.SERVING, Failed): _S.ERRORED,
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
    (_S.ERRORED, Returned): _S.AVAILABLE,
    (_S.ERRORED, ReturnedInUse): _S.SERVING,
    (_S.ERRORED, Recover): _S.RECOVERING,
    (_S.ERRORED, Destroy): _S.DESTROYED,
    (_S.ERRORED, Restarted): _S.ERRORED,
}

INDEXED_STATES = frozenset({_S.AVAILABLE, _S.SERVING})
INDEXING_STATES = frozenset({_S.INITIALIZING, _S.RECOVERING})
DESTROYED_FAILURE = Failure(ErrorClass.NOT_FOUND, "the shard was destroyed while this request waited for it")

_NEEDS_A_REFERENCE = (Release, LastRelease)
_NEEDS_NO_REFERENCE = (Destroy,)


def step(life: Life, event: Event) -> tuple[Life, tuple[Effect, ...]]:
    """The life after `event` and what has to be done about it, in order; raises IllegalEvent.

    Reports of an index that is no longer wanted (the shard was destroyed, or is being indexed anew) change nothing.
    """
    if isinstance(event, Withdraw):
        return _without(life, event.waiter), ()
    if isinstance(event, Indexed | Failed) and _is_stale(life, event):
        return life, ()
    event = _refined(life, event)
    after = TRANSITIONS.get((life.state, type(event)))
    if after is None or (isinstance(event, _NEEDS_A_REFERENCE) and life.refs == 0):
        raise IllegalEvent(life, event)
    if isinstance(event, _NEEDS_NO_REFERENCE) and life.refs > 0:
        raise IllegalEvent(life, event)
    return _carried(life, event, after)


def _is_stale(life: Life, event: Indexed | Failed) -> bool:
    return life.state is ShardState.DESTROYED or event.generation != life.generation


def _refined(life: Life, event: Event) -> Event:
    if isinstance(event, Release) and life.refs == 1:
        return LastRelease()
    if isinstance(event, Indexed) and life.refs > 0:
        return IndexedInUse(event.generation)
    if isinstance(event, Returned) and life.refs > 0:
        return ReturnedInUse(event.generation)
    return event


def _without(life: Life, waiter: Waiter) -> Life:
    return replace(
        life,
        parked=tuple(other for other in life.parked if other != waiter),
        watchers=tuple(other for other in life.watchers if other != waiter),
    )


def _carried(life: Life, event: Event, after: ShardState) -> tuple[Life, tuple[Effect, ...]]:
    """What each event does beside changing the state."""
    moved = replace(life, state=after)
    match event:
        case Acquire(waiter) if after is ShardState.SERVING:
            return replace(moved, refs=life.refs + 1), (Grant(waiter),)
        case Acquire(waiter) if after is ShardState.ERRORED:
            return moved, (Answer(waiter, life.failure),)
        case Acquire(waiter):
            return _indexing(life, replace(moved, parked=(*life.parked, waiter)), "Acquire", "first use")
        case Initialise(waiter) | Recover(waiter):
            watchers = life.watchers if waiter is None else (*life.watchers, waiter)
            return _indexing(life, replace(moved, watchers=watchers), type(event).__name__, "asked for")
        case Changed(reason):
            return _indexing(life, moved, "Changed", reason)
        case Restarted():
            return _restarted(life, moved)
        case Release() | LastRelease():
            return replace(moved, refs=life.refs - 1), ()
        case Indexed() | IndexedInUse():
            return _served(life, moved)
        case Returned() | ReturnedInUse():
            note = Persist(life.state, _S.AVAILABLE, "Returned", "the data is back as it was indexed")
            return replace(moved, failure=None), (note,)
        case Failed(_, failure):
            failed = replace(moved, failure=failure, parked=(), watchers=())
            answers = tuple(Answer(waiter, failure) for waiter in (*life.watchers, *life.parked))
            return failed, (Persist(life.state, after, "Failed", failure.message), *answers)
        case Destroy():
            return _destroyed(life)
    raise IllegalEvent(life, event)


def _indexing(before: Life, after: Life, event: str, reason: str) -> tuple[Life, tuple[Effect, ...]]:
    """Begin to make an index, unless that is what it was doing already."""
    if before.state is after.state:
        return after, ()
    started = replace(after, generation=before.generation + 1, failure=None)
    return started, (Persist(before.state, after.state, event, reason), StartIndexing(started.generation))


def _restarted(before: Life, after: Life) -> tuple[Life, tuple[Effect, ...]]:
    """Nobody waits and nobody holds a reference in a new process; work that was cut short begins again."""
    fresh = replace(after, refs=0, parked=(), watchers=())
    if after.state not in INDEXING_STATES:
        return fresh, ()
    again = replace(fresh, generation=before.generation + 1)
    note = Persist(before.state, after.state, "Restarted", "the agent stopped while it was being indexed")
    return again, (note, StartIndexing(again.generation))


def _served(before: Life, after: Life) -> tuple[Life, tuple[Effect, ...]]:
    """There is an index: tell the watchers, then let in whoever was parked, in order."""
    life = replace(after, failure=None, parked=(), watchers=())
    effects: list[Effect] = [Persist(before.state, ShardState.AVAILABLE, "Indexed", "")]
    effects += [Answer(waiter) for waiter in before.watchers]
    for waiter in before.parked:
        life, granted = step(life, Acquire(waiter))
        effects += granted
    return life, tuple(effects)


def _destroyed(before: Life) -> tuple[Life, tuple[Effect, ...]]:
    effects: list[Effect] = [Forget()]
    if before.state in INDEXING_STATES:
        effects.append(CancelIndexing(before.generation))
    effects += [Answer(waiter, DESTROYED_FAILURE) for waiter in (*before.watchers, *before.parked)]
    return Life(state=ShardState.DESTROYED, generation=before.generation), tuple(effects)
