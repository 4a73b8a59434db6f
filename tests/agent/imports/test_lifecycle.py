"""An import's life, step by step and by chance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dagstore.failures import ErrorClass, Failure
from agent.imports.lifecycle import NOTHING, IllegalEvent, step
from agent.imports.transitions import (
    CANCELLED,
    TRANSITIONS,
    Acquire,
    Answer,
    Begin,
    Cancel,
    Event,
    Failed,
    Forget,
    FoundBroken,
    FoundFine,
    FoundStale,
    ImportState,
    Join,
    Life,
    Made,
    Release,
    Remade,
    Remove,
    Restarted,
    StartMaking,
    StopMaking,
    Waiter,
    Withdraw,
)

FULL = Failure(ErrorClass.NO_SPACE, "the disk is full")
ONE, TWO = Waiter(1), Waiter(2)


def after(*events: Event, life: Life = NOTHING) -> Life:
    for event in events:
        life, _ = step(life, event)
    return life


def effects(life: Life, event: Event) -> list[str]:
    return [type(effect).__name__ for effect in step(life, event)[1]]


def test_what_somebody_waits_for_is_forgotten_when_it_fails_and_he_is_told() -> None:
    life, done = step(after(Begin(ONE)), Failed(1, FULL))
    assert life.state is ImportState.ABSENT
    assert done == (Forget(), Answer(ONE, FULL))


def test_what_was_left_to_itself_stays_with_its_error() -> None:
    life = after(Begin(), Failed(1, FULL))
    assert (life.state, life.failure) == (ImportState.BROKEN, FULL)


def test_the_last_one_who_leaves_takes_it_with_him() -> None:
    life = after(Begin(ONE), Join(TWO), Withdraw(ONE))
    assert life.state is ImportState.IMPORTING
    gone, done = step(life, Withdraw(TWO))
    assert gone.state is ImportState.ABSENT
    assert done == (Forget(), StopMaking(1))


def test_what_was_left_to_itself_goes_on_when_a_watcher_leaves() -> None:
    assert after(Begin(), Join(ONE), Withdraw(ONE)).state is ImportState.IMPORTING


def test_a_cancel_leaves_nothing_and_tells_all() -> None:
    life, done = step(after(Begin(ONE), Join(TWO)), Cancel())
    assert life.state is ImportState.ABSENT
    assert done == (Forget(), StopMaking(1), Answer(ONE, CANCELLED), Answer(TWO, CANCELLED))


def test_a_restart_begins_anew_what_was_left_to_itself() -> None:
    life, done = step(after(Begin()), Restarted())
    assert (life.state, life.generation) == (ImportState.IMPORTING, 2)
    assert done[-1] == StartMaking(2)


def test_a_restart_forgets_what_somebody_waited_for_since_he_was_told() -> None:
    life = Life(ImportState.IMPORTING, 1, attended=True)
    assert step(life, Restarted())[0].state is ImportState.ABSENT
    assert effects(life, Restarted()) == ["Forget", "StopMaking"]


def test_c11_what_is_referenced_is_not_removed() -> None:
    life = after(Begin(), Made(1), Acquire())
    with pytest.raises(IllegalEvent):
        step(life, Remove())
    assert after(Release(), Remove(), life=life).state is ImportState.ABSENT


def test_what_is_stale_can_be_read_and_comes_back_and_what_is_broken_cannot() -> None:
    stale = after(Begin(), Made(1), FoundStale(1, ("/a",), 1), Acquire())
    assert (stale.state, stale.stale, stale.refs) == (ImportState.STALE, ("/a",), 1)
    assert after(FoundFine(1), life=stale).state is ImportState.READY
    broken = after(FoundBroken(1, FULL), life=stale)
    assert (broken.state, broken.refs) == (ImportState.BROKEN, 1)
    with pytest.raises(IllegalEvent):
        step(broken, Acquire())


def test_what_a_look_at_an_earlier_making_says_changes_nothing() -> None:
    life = after(Begin(), Made(1), Remade("repair"))
    assert step(life, FoundBroken(1, FULL)) == (life, ())
    assert step(NOTHING, Made(0)) == (NOTHING, ())


def test_what_is_known_is_not_written_again() -> None:
    life = after(Begin(), Made(1), FoundStale(1, ("/a",), 1))
    assert step(life, FoundStale(1, ("/a",), 1)) == (life, ())


WAITERS = st.sampled_from([ONE, TWO])
EVENTS = st.one_of(
    st.builds(Begin, st.none() | WAITERS),
    st.builds(Join, WAITERS),
    st.builds(Withdraw, WAITERS),
    st.builds(Made, st.integers(0, 3)),
    st.builds(Failed, st.integers(0, 3), st.just(FULL)),
    st.builds(FoundFine, st.integers(0, 3)),
    st.builds(FoundStale, st.integers(0, 3), st.just(("/a",)), st.just(1)),
    st.builds(FoundBroken, st.integers(0, 3), st.just(FULL)),
    *(st.just(event) for event in (Cancel(), Acquire(), Release(), Remove(), Restarted(), Remade("x"))),
)


@given(st.lists(EVENTS, max_size=30))
def test_whatever_happens_every_waiter_is_answered_once_and_states_are_those_of_the_table(
    events: list[Event],
) -> None:
    life, waiting = NOTHING, set[Waiter]()
    for event in events:
        if isinstance(event, Begin | Join) and event.waiter in waiting:
            continue
        try:
            after_it, done = step(life, event)
        except IllegalEvent as error:
            assert error.life == life
            continue
        if isinstance(event, Begin | Join) and event.waiter is not None:
            waiting.add(event.waiter)
        if isinstance(event, Withdraw):
            waiting.discard(event.waiter)
        for effect in done:
            if isinstance(effect, Answer):
                waiting.remove(effect.waiter)
        assert set(after_it.watchers) == waiting or isinstance(event, Restarted)
        waiting = set(after_it.watchers)
        assert after_it.refs >= 0
        assert (after_it.failure is not None) == (after_it.state is ImportState.BROKEN)
        assert bool(after_it.stale) == (after_it.state is ImportState.STALE)
        assert after_it.state is life.state or any(
            (life.state, kind) in TRANSITIONS and TRANSITIONS[life.state, kind] is after_it.state
            for _, kind in TRANSITIONS
        )
        life = after_it
