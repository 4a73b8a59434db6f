"""What is learned of what tasks took, and what is reserved for the next one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.scheduler import table
from agent.scheduler.estimating import ENOUGH, NOTHING, Estimates, Learned, raised, required
from agent.scheduler.overrides import from_environment
from tests.agent.scheduler.machines import GIB, MIB, needs

FORMULA = table.requirement("check-inverted", GIB)


def seen(*peaks: int, size: int = GIB) -> Estimates:
    """MiB of tasks that ended well."""
    estimates = NOTHING
    for peak in peaks:
        estimates = estimates.observe("check-inverted", size, peak * MIB)
    return estimates


def test_nothing_is_known_before_anything_was_seen() -> None:
    assert NOTHING.estimate("check-inverted", GIB) is None
    assert required("check-inverted", GIB) == FORMULA


def test_more_than_the_formula_is_believed_at_once() -> None:
    assert seen(200).estimate("check-inverted", GIB) == 200 * MIB


def test_less_than_the_formula_is_believed_of_several_tasks_only() -> None:
    assert [seen(*[50] * count).estimate("check-inverted", GIB) for count in range(1, ENOUGH)] == [None] * (
        ENOUGH - 1
    )
    assert seen(*[50] * ENOUGH).estimate("check-inverted", GIB) == 50 * MIB


def test_a_lower_peak_takes_the_estimate_down_slowly_and_never_below_what_the_kind_needs_at_least() -> None:
    estimates = seen(160, 80)
    assert estimates.learned["check-inverted", "32G"] == Learned(155 * MIB, GIB, 2)
    for _ in range(200):
        estimates = estimates.observe("check-inverted", GIB, MIB)
    assert estimates.estimate("check-inverted", GIB) == FORMULA.min_memory


def test_a_task_that_was_killed_needed_half_as_much_again_as_it_had() -> None:
    estimates = NOTHING.observe("check-inverted", GIB, 90 * MIB, killed=True, limit_bytes=100 * MIB)
    assert estimates.estimate("check-inverted", GIB) == 150 * MIB
    estimates = estimates.observe("check-inverted", GIB, 0, killed=True, limit_bytes=10 * MIB)
    assert estimates.estimate("check-inverted", GIB) == 150 * MIB


def test_a_peak_that_is_not_known_says_nothing() -> None:
    assert NOTHING.observe("check-inverted", GIB, 0) == NOTHING
    assert NOTHING.observe("check-inverted", GIB, 0, killed=True) == NOTHING


def test_kinds_and_size_classes_are_learned_apart() -> None:
    estimates = seen(200)
    assert estimates.estimate("index", GIB) is None
    assert estimates.estimate("check-inverted", 100 * MIB) is None
    assert [(kind, size_class) for kind, size_class, _ in estimates.known()] == [("check-inverted", "32G")]


def test_what_a_smaller_one_took_grows_as_the_formula_does() -> None:
    small, big = GIB, 32 * GIB
    estimates = NOTHING
    for _ in range(ENOUGH):
        estimates = estimates.observe("index", small, 40 * MIB)
    by_formula = table.requirement("index", big).max_memory / table.requirement("index", small).max_memory
    found = estimates.estimate("index", big)
    assert found is not None and abs(found / (40 * MIB) - by_formula) < 0.01


def test_a_margin_is_reserved_on_what_was_learned() -> None:
    assert required("check-inverted", GIB, seen(200)).max_memory == table.coarse(250 * MIB)
    assert required("check-inverted", GIB, seen(200)).min_memory == FORMULA.min_memory


def test_what_the_environment_says_holds_before_what_was_learned() -> None:
    overrides = from_environment({"CHECK_INVERTED_MAX_MEMORY": "123MiB"})
    assert required("check-inverted", GIB, seen(200), overrides).max_memory == 123 * MIB


def test_a_task_that_was_killed_is_begun_anew_with_more_whatever_says_otherwise() -> None:
    assert raised(needs(100), 100 * MIB).max_memory == table.coarse(150 * MIB)
    assert raised(needs(500), 100 * MIB).max_memory == 500 * MIB


peaks = st.integers(0, 1 << 40)


@given(st.lists(st.tuples(peaks, st.booleans(), peaks, st.integers(0, 1 << 37))))
def test_an_estimate_is_never_less_than_what_just_killed_a_task_nor_less_than_the_least(
    seen: list[tuple[int, bool, int, int]],
) -> None:
    estimates = NOTHING
    for peak, killed, limit, size in seen:
        estimates = estimates.observe("index", size, peak, killed, limit)
        found = estimates.estimate("index", size)
        assert found is None or found >= table.requirement("index", size).min_memory
        if killed and max(peak, limit) > table.requirement("index", size).max_memory:
            assert found is not None and found >= max(peak, limit)
