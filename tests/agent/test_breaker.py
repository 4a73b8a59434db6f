"""An origin that fails again and again is left alone, for longer each time, until it answers."""

from __future__ import annotations

from typing import get_args

from agent.dagstore.breaker import HEALTHY, TRANSITIONS, Breakers, BreakerState, Event, Limits

LIMITS = Limits(failures=3, pause_s=10, max_pause_s=30)
HOST = "https://host:443"
C, O, H = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN  # noqa: E741


def opened(at_s: float = 0) -> Breakers:
    breakers = Breakers(LIMITS)
    for _ in range(3):
        assert breakers.ask(HOST, at_s) == 0
        breakers.failed(HOST, at_s)
    return breakers


def test_every_event_has_an_end_in_every_state_but_time_that_closed_has_no_use_for() -> None:
    events = {(state, event) for state in BreakerState for event in get_args(Event)}
    assert {(state.name, event.__name__) for state, event in events - TRANSITIONS.keys()} == {
        ("CLOSED", "TimeIsUp")
    }


def test_failures_in_a_row_open_it_and_it_says_for_how_long() -> None:
    breakers = opened(at_s=100)
    assert breakers[HOST].state is O
    assert breakers.ask(HOST, 101) == 9
    assert breakers.ask("https://other:443", 101) == 0


def test_a_success_in_between_begins_the_count_anew() -> None:
    breakers = Breakers(LIMITS)
    for _ in range(10):
        breakers.failed(HOST, 0)
        breakers.failed(HOST, 0)
        breakers.succeeded(HOST)
    assert (breakers[HOST], breakers.unhealthy()) == (HEALTHY, {})


def test_after_the_pause_one_goes_through_and_the_others_wait() -> None:
    breakers = opened()
    assert [breakers.ask(HOST, 10), breakers.ask(HOST, 10)] == [0, 10]
    assert breakers[HOST].state is H


def test_the_one_that_went_through_closes_it() -> None:
    breakers = opened()
    breakers.ask(HOST, 10)
    breakers.succeeded(HOST)
    assert [breakers.ask(HOST, 10), breakers.ask(HOST, 10)] == [0, 0]


def test_or_opens_it_again_for_twice_as_long_up_to_the_longest() -> None:
    breakers, now_s, pauses = opened(), 0.0, []
    for _ in range(4):
        now_s += breakers.ask(HOST, now_s)
        assert breakers.ask(HOST, now_s) == 0
        breakers.failed(HOST, now_s)
        pauses.append(breakers.ask(HOST, now_s))
    assert pauses == [20, 30, 30, 30]


def test_one_that_went_through_and_never_came_back_does_not_keep_it_half_open_for_ever() -> None:
    breakers = opened()
    assert breakers.ask(HOST, 10) == 0
    assert [breakers.ask(HOST, 19), breakers.ask(HOST, 20), breakers.ask(HOST, 20)] == [1, 0, 10]


def test_those_who_were_under_way_when_it_opened_make_the_pause_no_longer() -> None:
    breakers = opened()
    breakers.failed(HOST, 5)
    assert breakers.ask(HOST, 6) == 4


def test_what_was_under_way_when_it_failed_is_part_of_that_failure() -> None:
    breakers = Breakers(LIMITS)
    for _ in range(16):
        breakers.failed(HOST, 5, begun_s=4)
    assert (breakers[HOST].state, breakers[HOST].failures) == (C, 1)
    for now_s in (6, 7):
        breakers.failed(HOST, now_s, begun_s=now_s - 0.5)
    assert breakers[HOST].state is O


def test_without_a_limit_it_never_opens() -> None:
    breakers = Breakers(Limits(failures=0))
    for _ in range(1000):
        breakers.failed(HOST, 0)
    assert breakers.ask(HOST, 0) == 0
