"""An import's life: the one function that takes a step through the table of `transitions.py`. Pure."""

from __future__ import annotations

from dataclasses import replace

from agent.dagstore.failures import Failure
from agent.imports.transitions import (
    CANCELLED,
    MADE_STATES,
    TRANSITIONS,
    Acquire,
    Answer,
    Begin,
    Cancel,
    Effect,
    Event,
    Failed,
    FailedAttended,
    Forget,
    FoundBroken,
    FoundFine,
    FoundStale,
    ImportState,
    Join,
    Life,
    Made,
    Persist,
    Publish,
    Release,
    Remade,
    Remove,
    Restarted,
    RestartedAttended,
    StartMaking,
    StopMaking,
    Waiter,
    Withdraw,
    WithdrawLast,
)

NOTHING = Life(ImportState.ABSENT)
"""What every import begins as, and ends as."""
_OF_A_GENERATION = (Made, Failed, FoundFine, FoundStale, FoundBroken)


class IllegalEvent(Exception):
    """This event cannot happen in this state; nothing was changed. The caller's mistake."""

    def __init__(self, life: Life, event: Event) -> None:
        super().__init__(
            f"{type(event).__name__} is not possible in {life.state.value} with {life.refs} references"
        )
        self.life = life
        self.event = event


def step(life: Life, event: Event) -> tuple[Life, tuple[Effect, ...]]:
    """The life after `event` and what has to be done about it, in order; raises IllegalEvent.

    What a worker says of a making that is over changes nothing.
    """
    if isinstance(event, _OF_A_GENERATION) and (
        life.state is ImportState.ABSENT or event.generation != life.generation
    ):
        return life, ()
    if isinstance(event, Withdraw) and event.waiter not in life.watchers:
        return life, ()
    event = _refined(life, event)
    after = TRANSITIONS.get((life.state, type(event)))
    if (
        after is None
        or (isinstance(event, Release) and not life.refs)
        or (isinstance(event, Remove) and life.refs)
    ):
        raise IllegalEvent(life, event)
    return _carried(life, event, after)


def _refined(life: Life, event: Event) -> Event:
    match event:
        case Withdraw(waiter) if life.attended and life.watchers == (waiter,):
            return WithdrawLast(waiter)
        case Failed(generation, failure, existing) if life.attended:
            return FailedAttended(generation, failure, existing)
        case Restarted() if life.attended and life.state is ImportState.IMPORTING:
            return RestartedAttended()
    return event


def _carried(life: Life, event: Event, after: ImportState) -> tuple[Life, tuple[Effect, ...]]:
    """What each event does beside changing the state."""
    moved = replace(life, state=after)
    name = type(event).__name__
    match event:
        case Begin(waiter):
            watchers = () if waiter is None else (waiter,)
            begun = replace(
                moved, generation=life.generation + 1, attended=waiter is not None, watchers=watchers
            )
            return begun, (Persist(life.state, after, name, ""), StartMaking(begun.generation))
        case Join(waiter) if after is ImportState.IMPORTING:
            return replace(moved, watchers=(*life.watchers, waiter)), ()
        case Join(waiter):
            return life, (Answer(waiter, life.failure),)
        case Withdraw(waiter):
            return replace(moved, watchers=tuple(one for one in life.watchers if one != waiter)), ()
        case WithdrawLast(waiter):
            return _gone(replace(life, watchers=()), CANCELLED)
        case Cancel() | Remove():
            return _gone(life, CANCELLED)
        case RestartedAttended():
            return _gone(replace(life, watchers=()), CANCELLED)
        case Made():
            made = replace(moved, failure=None, attended=False, watchers=())
            return made, (Persist(life.state, after, name, ""), *_answers(life.watchers))
        case FailedAttended(_, failure, existing):
            answers = _answers(life.watchers, failure, existing)
            return Life(ImportState.ABSENT, life.generation), (Forget(), *answers)
        case Failed(_, failure, existing):
            failed = replace(moved, failure=failure, watchers=())
            return failed, (
                Persist(life.state, after, name, failure.message),
                *_answers(life.watchers, failure, existing),
            )
        case FoundFine() | Remade():
            remade = replace(moved, failure=None, stale=(), stale_count=0)
            if isinstance(event, Remade):
                return replace(remade, generation=life.generation + 1), (
                    Persist(life.state, after, name, event.reason),
                )
            return _found(life, remade, name, "")
        case FoundStale(_, files, count):
            stale = replace(moved, failure=None, stale=files, stale_count=count)
            return _found(life, stale, name, f"{count} files are not as they were")
        case FoundBroken(_, failure):
            broken = replace(moved, failure=failure, stale=(), stale_count=0)
            return _found(life, broken, name, failure.message)
        case Acquire():
            return replace(moved, refs=life.refs + 1), (Publish(),)
        case Release():
            return replace(moved, refs=life.refs - 1), (Publish(),)
        case Restarted():
            fresh = replace(moved, refs=0, watchers=())
            if after in MADE_STATES:
                return fresh, ()
            again = replace(fresh, generation=life.generation + 1)
            note = Persist(life.state, after, name, "the agent stopped while it was being made")
            return again, (note, StartMaking(again.generation))
    raise IllegalEvent(life, event)


def _found(before: Life, after: Life, event: str, reason: str) -> tuple[Life, tuple[Effect, ...]]:
    """Nothing, if that was known."""
    return (after, (Persist(before.state, after.state, event, reason),)) if after != before else (before, ())


def _gone(life: Life, failure: Failure) -> tuple[Life, tuple[Effect, ...]]:
    effects: list[Effect] = [Forget()]
    if life.state is ImportState.IMPORTING:
        effects.append(StopMaking(life.generation))
    effects += _answers(life.watchers, failure)
    return Life(ImportState.ABSENT, life.generation), tuple(effects)


def _answers(
    waiters: tuple[Waiter, ...], failure: Failure | None = None, existing: int = 0
) -> tuple[Answer, ...]:
    return tuple(Answer(waiter, failure, existing) for waiter in waiters)
