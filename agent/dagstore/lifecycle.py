"""A shard's life: the one function that takes a step through the table of `transitions.py`.

Pure: no clock, no await, no log. `steps.py` feeds events in and carries the effects out in the order in which they
are returned; the model test drives the same function with random events.
"""

from __future__ import annotations

from dataclasses import replace

from agent.dagstore.failures import Failure
from agent.dagstore.transitions import (
    DESTROYED_FAILURE,
    INDEXED_STATES,
    INDEXING_STATES,
    TRANSITIONS,
    Acquire,
    Answer,
    CalledOff,
    CancelIndexing,
    Changed,
    Destroy,
    Effect,
    Event,
    Failed,
    FailedAgain,
    Forget,
    Grant,
    Indexed,
    IndexedInUse,
    Initialise,
    LastRelease,
    Life,
    Persist,
    Recover,
    Register,
    Release,
    Reported,
    Restarted,
    Returned,
    ReturnedInUse,
    ScheduleRetry,
    ShardState,
    StartIndexing,
    Waiter,
    Withdraw,
)

__all__ = [
    "DESTROYED_FAILURE", "INDEXED_STATES", "INDEXING_STATES", "TRANSITIONS", "Acquire", "Answer", "CalledOff",
    "CancelIndexing", "Changed", "Destroy", "Effect", "Event", "Failed", "FailedAgain", "Forget", "Grant",
    "IllegalEvent", "Indexed", "IndexedInUse", "Initialise", "LastRelease", "Life", "Persist", "Recover", "Register",
    "Release", "Reported", "Restarted", "Returned", "ReturnedInUse", "ScheduleRetry", "ShardState", "StartIndexing",
    "Waiter", "Withdraw", "is_forsaken", "step",
]  # fmt: skip


class IllegalEvent(Exception):
    """This event cannot happen in this state; nothing was changed. The caller's mistake."""

    def __init__(self, life: Life, event: Event) -> None:
        super().__init__(
            f"{type(event).__name__} is not possible in {life.state.value} with {life.refs} references"
        )
        self.life = life
        self.event = event


_S = ShardState
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
    if isinstance(event, CalledOff) and not is_forsaken(life):
        raise IllegalEvent(life, event)
    return _carried(life, event, after)


def is_forsaken(life: Life) -> bool:
    """Whether the index is made for nobody: it was for those who were parked, and they have gone."""
    return life.on_demand and not life.parked and not life.watchers


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
    if waiter not in life.parked and waiter not in life.watchers:
        return life
    return replace(
        life,
        parked=tuple(other for other in life.parked if other != waiter),
        watchers=tuple(other for other in life.watchers if other != waiter),
    )


def _carried(life: Life, event: Event, after: ShardState) -> tuple[Life, tuple[Effect, ...]]:
    """What each event does beside changing the state."""
    moved = replace(life, state=after)
    match event:
        case Register():
            return moved, (Persist(life.state, after, "Register", "lazy"),)
        case Acquire(waiter) if after is ShardState.SERVING:
            return replace(moved, refs=life.refs + 1), (Grant(waiter),)
        case Acquire(waiter) if after is ShardState.ERRORED:
            return moved, (Answer(waiter, life.failure),)
        case Acquire(waiter):
            parked = replace(
                moved, parked=(*life.parked, waiter), on_demand=life.on_demand or life.state is _S.NEW
            )
            return _indexing(life, parked, "Acquire", "first use")
        case Initialise(waiter):
            watched = replace(_watched(moved, waiter), on_demand=False)
            return _indexing(life, watched, "Initialise", "asked for")
        case Recover(waiter, reason):
            return _indexing(life, _watched(moved, waiter), "Recover", reason)
        case Changed(reason):
            return _indexing(life, moved, "Changed", reason)
        case CalledOff():
            note = Persist(life.state, after, "CalledOff", "nobody waits for it any more")
            return replace(moved, on_demand=False), (note, CancelIndexing(life.generation))
        case Restarted():
            return _restarted(life, moved)
        case Release() | LastRelease():
            return replace(moved, refs=life.refs - 1), ()
        case Indexed() | IndexedInUse():
            return _served(life, moved)
        case Returned() | ReturnedInUse():
            note = Persist(life.state, _S.AVAILABLE, "Returned", "the data is back as it was indexed")
            return replace(moved, failure=None, attempts=0), (note,)
        case Failed(_, failure) | FailedAgain(failure) | Reported(failure):
            return _failed(life, moved, type(event).__name__, failure)
        case Destroy():
            return _destroyed(life)
    raise IllegalEvent(life, event)


def _watched(life: Life, waiter: Waiter | None) -> Life:
    return life if waiter is None else replace(life, watchers=(*life.watchers, waiter))


def _indexing(before: Life, after: Life, event: str, reason: str) -> tuple[Life, tuple[Effect, ...]]:
    """Begin to make an index, unless that is what it was doing already."""
    if before.state is after.state:
        return after, ()
    started = replace(after, generation=before.generation + 1, failure=None)
    return started, (Persist(before.state, after.state, event, reason), StartIndexing(started.generation))


def _restarted(before: Life, after: Life) -> tuple[Life, tuple[Effect, ...]]:
    """Nobody holds a reference in a new process; work that was cut short begins again, for those, too, who have come
    to wait for it in the meantime."""
    fresh = replace(after, refs=0)
    if after.state not in INDEXING_STATES:
        return fresh, ()
    again = replace(fresh, generation=before.generation + 1)
    note = Persist(before.state, after.state, "Restarted", "the agent stopped while it was being indexed")
    return again, (note, StartIndexing(again.generation))


def _served(before: Life, after: Life) -> tuple[Life, tuple[Effect, ...]]:
    """There is an index: tell the watchers, then let in whoever was parked, in order."""
    life = replace(after, failure=None, parked=(), watchers=(), attempts=0, on_demand=False)
    effects: list[Effect] = [Persist(before.state, ShardState.AVAILABLE, "Indexed", "")]
    effects += [Answer(waiter) for waiter in before.watchers]
    for waiter in before.parked:
        life, granted = step(life, Acquire(waiter))
        effects += granted
    return life, tuple(effects)


def _failed(before: Life, after: Life, event: str, failure: Failure) -> tuple[Life, tuple[Effect, ...]]:
    """It is Errored: tell all who wait, and see whether it is worth another try. Readers keep their references."""
    attempts = before.attempts + 1
    life = replace(after, failure=failure, parked=(), watchers=(), attempts=attempts, on_demand=False)
    answers = [Answer(waiter, failure) for waiter in (*before.watchers, *before.parked)]
    note = Persist(before.state, after.state, event, failure.message)
    return life, (note, *answers, ScheduleRetry(attempts, failure))


def _destroyed(before: Life) -> tuple[Life, tuple[Effect, ...]]:
    effects: list[Effect] = [Forget()]
    if before.state in INDEXING_STATES:
        effects.append(CancelIndexing(before.generation))
    effects += [Answer(waiter, DESTROYED_FAILURE) for waiter in (*before.watchers, *before.parked)]
    return Life(state=ShardState.DESTROYED, generation=before.generation), tuple(effects)
