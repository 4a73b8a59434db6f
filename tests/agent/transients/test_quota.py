"""Room for transients: who goes, and when nobody can."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dagstore.transients.quota import Decision, Idle, Limits, decide

LIMITS = Limits(max_bytes=1000, high=0.9, low=0.5)


def idle(*sizes: int) -> list[Idle]:
    return [Idle(str(number), size) for number, size in enumerate(sizes)]


def test_below_the_high_watermark_nothing_goes() -> None:
    assert decide(LIMITS, 800, 100, idle(100, 100)) == Decision()


def test_above_it_the_longest_unused_go_down_to_the_low_one() -> None:
    assert decide(LIMITS, 900, 50, idle(200, 100, 300, 100)) == Decision(("0", "1", "2"))


def test_what_would_not_fit_even_then_is_refused_and_costs_nobody_anything() -> None:
    assert decide(LIMITS, 990, 50, idle(10, 10)) == Decision(refused=True)


def test_between_the_watermark_and_the_limit_there_is_room_if_nothing_can_go() -> None:
    assert decide(LIMITS, 900, 100, []) == Decision()


def test_empty_transients_are_left_since_that_frees_nothing() -> None:
    assert decide(LIMITS, 900, 50, idle(0, 500)) == Decision(("1",))


def test_without_a_limit_nothing_ever_goes() -> None:
    assert decide(Limits(), 10**15, 10**15, idle(5)) == Decision()


@pytest.mark.parametrize(("low", "high"), [(0.9, 0.7), (0.0, 0.5), (0.5, 1.5), (0.5, 0.5)])
def test_watermarks_that_make_no_sense_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="0 < low < high <= 1"):
        Limits(1000, high, low)


@given(
    st.integers(1, 2000), st.integers(0, 2000), st.integers(0, 500), st.lists(st.integers(0, 400), max_size=9)
)
def test_the_limit_is_never_crossed_by_what_is_allowed(
    most: int, used: int, wanted: int, sizes: list[int]
) -> None:
    decision = decide(Limits(most), used, wanted, idle(*sizes))
    freed = sum(sizes[int(name)] for name in decision.evict)
    assert decision.refused or used + wanted - freed <= most
    assert not (decision.refused and decision.evict)
