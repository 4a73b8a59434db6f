"""The rule: the smallest limit, the least left."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.resources import rule
from agent.resources.facts import Bound, Fact, Resource

numbers = st.integers(0, 1 << 64)


def memory(limit: int | None, used: int | None = None, level: str = "a") -> Fact:
    return Fact(Resource.MEMORY, "test", level, "memory.max", "/f", limit, used)


def test_w6_a_looser_parent_that_others_have_filled_binds_first() -> None:
    host, parent, own = memory(800, 100, "host"), memory(500, 450, "p"), memory(300, 100, "p/own")
    assert rule.bound([host, parent, own], Resource.MEMORY) == Bound(300, own, 50, parent)


def test_w8_more_used_than_the_limit_is_nothing_left() -> None:
    fact = memory(300, 400)
    found = rule.bound([fact], Resource.MEMORY)
    assert (found.headroom, found.used) == (0, 300)


def test_of_equal_limits_the_outermost_is_named() -> None:
    outer, inner = memory(300, 10, "p"), memory(300, 10, "p/own")
    assert rule.bound([outer, inner], Resource.MEMORY) == Bound(300, outer, 290, outer)


def test_nothing_has_more_left_than_a_limit_that_does_not_say_what_is_used() -> None:
    host, rlimit = memory(800, 100), memory(300)
    assert rule.bound([host, rlimit], Resource.MEMORY) == Bound(300, rlimit, 300, rlimit)


def test_what_is_left_is_not_known_where_no_level_says_what_is_used() -> None:
    assert rule.bound([memory(300)], Resource.MEMORY).headroom is None
    assert rule.bound([memory(None, 5)], Resource.MEMORY) == Bound()


@given(st.lists(st.tuples(st.none() | numbers, st.none() | numbers)))
def test_the_rule_holds_for_any_facts(pairs: list[tuple[int | None, int | None]]) -> None:
    facts = [memory(limit, used) for limit, used in pairs]
    found = rule.bound(facts, Resource.MEMORY)
    limits = [limit for limit, _ in pairs if limit is not None]
    assert found.limit == min(limits, default=None)
    if found.limit is not None and found.headroom is not None:
        assert 0 <= found.headroom <= found.limit
        assert all(
            found.headroom <= max(0, limit - used)
            for limit, used in pairs
            if limit is not None and used is not None
        )
