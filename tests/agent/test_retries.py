"""Back-off: longer each time, never all at once, and never for what waiting cannot mend."""

from __future__ import annotations

import pytest

from agent.dagstore.failures import ErrorClass
from agent.dagstore.retries import NEVER, POLICIES, Retries, RetryPolicy

POLICY = RetryPolicy(first_s=4, max_s=20, attempts=5)


def no_luck() -> float:
    return 0.0


def test_each_delay_is_twice_the_one_before_up_to_the_longest() -> None:
    assert [POLICY.delay_s(attempt, no_luck) for attempt in range(1, 6)] == [4, 8, 16, 20, 20]


def test_chance_takes_off_up_to_a_half() -> None:
    drawn = iter((0.0, 0.5, 1.0))
    assert [POLICY.delay_s(1, lambda: next(drawn)) for _ in range(3)] == [4, 3, 2]


def test_whoever_says_when_to_come_back_is_left_alone_till_then_but_not_longer_than_the_longest() -> None:
    assert [POLICY.delay_s(1, no_luck, after_s) for after_s in (None, 1, 15, 9999)] == [4, 4, 15, 20]
    assert POLICY.delay_s(6, no_luck, 1) is None


def test_after_the_last_attempt_there_is_none() -> None:
    assert POLICY.delay_s(6, no_luck) is None
    assert POLICY.delay_s(0, no_luck) is None


def test_any_number_of_attempts_has_a_delay() -> None:
    assert RetryPolicy(1, 60, attempts=10**6).delay_s(10**6, no_luck) == 60


def test_every_class_has_a_policy() -> None:
    assert POLICIES.keys() == set(ErrorClass)


@pytest.mark.parametrize("error_class", ["corrupt", "invalid", "bug", "not-found", "exists", "cancelled"])
def test_what_waiting_cannot_mend_is_never_tried_again(error_class: str) -> None:
    assert POLICIES[ErrorClass(error_class)] == NEVER
    assert Retries().delay_s(ErrorClass(error_class), 1, no_luck) is None


@pytest.mark.parametrize("error_class", ["gone", "busy", "no-space", "denied"])
def test_what_may_mend_itself_is_tried_again(error_class: str) -> None:
    first_s = POLICIES[ErrorClass(error_class)].first_s
    assert Retries().delay_s(ErrorClass(error_class), 1, no_luck) == first_s > 0


def test_an_operator_can_have_fewer_and_sooner_retries_and_never_more() -> None:
    assert Retries(attempts=2, max_s=3).policy(ErrorClass.GONE) == RetryPolicy(5, 3, 2)
    assert Retries(attempts=0).delay_s(ErrorClass.GONE, 1, no_luck) is None
    assert Retries(attempts=99, max_s=9e9).policy(ErrorClass.GONE) == POLICIES[ErrorClass.GONE]
    assert Retries(attempts=99).policy(ErrorClass.CORRUPT) == NEVER
