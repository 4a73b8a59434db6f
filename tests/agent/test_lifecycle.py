"""Rules of a shard's life, one step at a time; the defect numbers are those of Lotus' dagstore."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.dagstore.failures import ErrorClass, Failure
from agent.dagstore.lifecycle import (
    DESTROYED_FAILURE,
    INDEXED_STATES,
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
    IllegalEvent,
    Indexed,
    Initialise,
    Life,
    Persist,
    Recover,
    Release,
    Reported,
    Restarted,
    Returned,
    ScheduleRetry,
    ShardState,
    StartIndexing,
    Waiter,
    Withdraw,
    step,
)

S = ShardState
GONE = Failure(ErrorClass.GONE, "no such file")
CORRUPT = Failure(ErrorClass.CORRUPT, "block 7")
ONE, TWO, THREE = Waiter(1), Waiter(2), Waiter(3)


def after(life: Life, *events: Event) -> tuple[Life, tuple[Effect, ...]]:
    """The life after all events, and the effects of the last."""
    effects: tuple[Effect, ...] = ()
    for event in events:
        life, effects = step(life, event)
    return life, effects


def test_states_have_the_names_that_lotus_gives_them() -> None:
    names = ["New", "Initializing", "Available", "Serving", "Recovering", "Errored", "Unknown"]
    assert [state.value for state in ShardState] == [f"ShardState{name}" for name in names]


def test_nothing_leads_out_of_destroyed_and_everything_else_leads_there() -> None:
    assert {before for before, _ in TRANSITIONS} == set(ShardState) - {S.DESTROYED}
    assert all((state, Destroy) in TRANSITIONS for state in set(ShardState) - {S.DESTROYED, S.SERVING})


def test_the_record_is_written_before_anybody_is_told() -> None:
    life, effects = after(Life(), Initialise(ONE), Acquire(TWO), Indexed(1))
    assert life == Life(S.SERVING, generation=1, refs=1)
    assert effects == (Persist(S.INITIALIZING, S.AVAILABLE, "Indexed", ""), Answer(ONE), Grant(TWO))


def test_first_use_of_a_lazy_shard_indexes_it_once_for_all_who_come() -> None:
    life, first = step(Life(), Acquire(ONE))
    assert first == (Persist(S.NEW, S.INITIALIZING, "Acquire", "first use"), StartIndexing(1))
    life, second = step(life, Acquire(TWO))
    assert second == ()
    assert life.parked == (ONE, TWO)


def test_d2_a_release_never_makes_an_errored_shard_available() -> None:
    """D-2: a release made an Errored shard Available, with the old error text."""
    life, _ = after(Life(), Acquire(ONE), Indexed(1), Failed(1, GONE))
    assert (life.state, life.refs) == (S.ERRORED, 1)
    life, effects = step(life, Release())
    assert life == Life(S.ERRORED, generation=1, failure=GONE, attempts=1)
    assert effects == ()


def test_d8_releasing_more_than_was_taken_is_the_callers_mistake_and_changes_nothing() -> None:
    """D-8: a second close stole somebody else's reference."""
    for state in ShardState:
        with pytest.raises(IllegalEvent):
            step(Life(state), Release())


def test_d3_destroying_what_is_in_use_is_refused() -> None:
    """D-3: it was refused and the record deleted all the same."""
    serving, _ = after(Life(), Acquire(ONE), Indexed(1))
    for life in (serving, step(serving, Failed(1, GONE))[0], step(serving, Changed("size"))[0]):
        with pytest.raises(IllegalEvent):
            step(life, Destroy())


def test_d4_destroying_what_is_being_indexed_cancels_that_and_answers_all_who_wait() -> None:
    """D-4: parked acquirers of a destroyed shard never got an answer."""
    life, effects = after(Life(), Initialise(ONE), Acquire(TWO), Destroy())
    assert life == Life(S.DESTROYED, generation=1)
    answers = (Answer(ONE, DESTROYED_FAILURE), Answer(TWO, DESTROYED_FAILURE))
    assert effects == (Forget(), CancelIndexing(1), *answers)


def test_d4_what_a_late_worker_says_of_a_destroyed_shard_is_ignored() -> None:
    """D-4: it was persisted again and came back at the next start."""
    life, _ = after(Life(), Initialise(), Destroy())
    assert step(life, Indexed(1)) == (life, ())
    assert step(life, Failed(1, GONE)) == (life, ())


def test_what_a_late_worker_says_of_an_older_generation_is_ignored() -> None:
    life, _ = after(Life(), Initialise(), Failed(1, GONE), Recover())
    assert step(life, Indexed(1)) == (life, ())
    assert step(life, Indexed(2))[0].state is S.AVAILABLE


def test_d1_recovering_goes_on_after_a_restart() -> None:
    """D-1: Recovering at shutdown was never resumed, and could not be recovered by hand."""
    life, effects = step(Life(S.RECOVERING, generation=4), Restarted())
    assert life == Life(S.RECOVERING, generation=5)
    assert effects[-1] == StartIndexing(5)
    assert step(life, Recover(ONE))[0].watchers == (ONE,)


@pytest.mark.parametrize(
    ("before", "then"),
    [(S.NEW, S.NEW), (S.INITIALIZING, S.INITIALIZING), (S.SERVING, S.AVAILABLE), (S.ERRORED, S.ERRORED)],
)
def test_a_restart_leaves_no_references_and_begins_again_what_was_cut_short(
    before: ShardState, then: ShardState
) -> None:
    life, effects = step(Life(before, generation=1, refs=2), Restarted())
    assert (life.state, life.refs) == (then, 0)
    assert any(isinstance(effect, StartIndexing) for effect in effects) == (then is S.INITIALIZING)


def test_data_that_changed_is_indexed_again_while_readers_keep_their_references() -> None:
    life, effects = after(Life(), Acquire(ONE), Indexed(1), Changed("size 1 -> 2"))
    assert (life.state, life.refs, life.generation) == (S.RECOVERING, 1, 2)
    assert effects == (Persist(S.SERVING, S.RECOVERING, "Changed", "size 1 -> 2"), StartIndexing(2))
    assert step(life, Indexed(2))[0].state is S.SERVING
    assert after(life, Release(), Indexed(2))[0].state is S.AVAILABLE


def test_acquiring_an_errored_shard_tells_why_it_is_errored() -> None:
    life, _ = after(Life(), Initialise(), Failed(1, GONE))
    assert step(life, Acquire(ONE)) == (life, (Answer(ONE, GONE),))


def test_whoever_waits_for_a_shard_that_fails_is_told_why() -> None:
    life, effects = after(Life(), Initialise(ONE), Acquire(TWO), Acquire(THREE), Failed(1, GONE))
    assert life == Life(S.ERRORED, generation=1, failure=GONE, attempts=1)
    answers = (Answer(ONE, GONE), Answer(TWO, GONE), Answer(THREE, GONE))
    assert effects[1:] == (*answers, ScheduleRetry(1, GONE))


def test_whoever_stops_waiting_is_neither_answered_nor_given_anything() -> None:
    life, effects = after(Life(), Acquire(ONE), Acquire(TWO), Withdraw(ONE), Indexed(1))
    assert effects[1:] == (Grant(TWO),)
    assert life.refs == 1


def test_data_that_is_back_is_served_to_those_who_kept_their_references_too() -> None:
    errored, _ = after(Life(), Acquire(ONE), Indexed(1), Failed(1, GONE))
    assert step(errored, Returned(1))[0] == Life(S.SERVING, generation=1, refs=1)
    assert after(errored, Release(), Returned(1))[0] == Life(S.AVAILABLE, generation=1)


def test_moving_between_available_and_serving_writes_nothing() -> None:
    life = Life(S.AVAILABLE, generation=1)
    for event in (Acquire(ONE), Acquire(TWO), Release(), Release()):
        life, effects = step(life, event)
        assert not any(isinstance(effect, Persist) for effect in effects)
    assert life == Life(S.AVAILABLE, generation=1)


def test_a_failure_that_somebody_reports_makes_it_errored_and_leaves_readers_alone() -> None:
    life, effects = after(Life(), Acquire(ONE), Indexed(1), Reported(CORRUPT))
    assert life == Life(S.ERRORED, generation=1, refs=1, failure=CORRUPT, attempts=1)
    assert effects == (
        Persist(S.SERVING, S.ERRORED, "Reported", "block 7"),
        ScheduleRetry(1, CORRUPT),
    )
    assert step(life, Release())[0].state is S.ERRORED


def test_a_failure_reported_of_an_errored_shard_replaces_the_one_before() -> None:
    life, _ = after(Life(), Initialise(), Failed(1, GONE), Reported(CORRUPT))
    assert (life.failure, life.attempts) == (CORRUPT, 2)


def test_what_is_being_indexed_cannot_be_reported_since_that_shows_it() -> None:
    life, _ = step(Life(), Initialise())
    with pytest.raises(IllegalEvent):
        step(life, Reported(CORRUPT))


def test_attempts_are_counted_from_one_success_to_the_next() -> None:
    life, effects = after(Life(), Initialise(), Failed(1, GONE), Recover(), Failed(2, GONE))
    assert effects[-1] == ScheduleRetry(2, GONE)
    life, effects = step(life, FailedAgain(GONE))
    assert effects == (Persist(S.ERRORED, S.ERRORED, "FailedAgain", "no such file"), ScheduleRetry(3, GONE))
    assert after(life, Recover(), Indexed(3))[0].attempts == 0
    assert step(life, Returned(2))[0].attempts == 0


def test_d14_the_first_index_of_a_lazy_shard_is_called_off_when_all_who_wanted_it_have_gone() -> None:
    life, _ = after(Life(), Acquire(ONE), Acquire(TWO), Withdraw(ONE))
    with pytest.raises(IllegalEvent):
        step(life, CalledOff())
    life, effects = after(life, Withdraw(TWO), CalledOff())
    assert life == Life(S.NEW, generation=1)
    reason = "nobody waits for it any more"
    assert effects == (Persist(S.INITIALIZING, S.NEW, "CalledOff", reason), CancelIndexing(1))
    assert step(life, Acquire(ONE))[1][-1] == StartIndexing(2)


def test_an_index_that_somebody_asked_for_by_name_is_never_called_off() -> None:
    for events in ((Initialise(ONE),), (Acquire(ONE), Initialise(TWO)), (Initialise(),)):
        life, _ = after(Life(), *events, Withdraw(ONE), Withdraw(TWO))
        with pytest.raises(IllegalEvent):
            step(life, CalledOff())


def test_whoever_came_before_the_work_began_again_waits_on() -> None:
    life, effects = after(Life(S.INITIALIZING, generation=1), Acquire(ONE), Restarted())
    assert (life.parked, effects[-1]) == ((ONE,), StartIndexing(2))


def test_an_event_that_is_not_in_the_table_is_a_mistake() -> None:
    for state in INDEXED_STATES:
        for event in (Initialise(), Recover(), Indexed(1)):
            with pytest.raises(IllegalEvent):
                step(replace(Life(generation=1), state=state), event)
