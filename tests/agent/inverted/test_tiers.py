"""Few segments, and each entry rewritten a few times only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dagstore.inverted import tiers


def grown(additions: list[int]) -> tuple[int, int]:
    """The most segments that there ever were, and entries written, when these many are added one after another."""
    sizes: list[int] = []
    most = written = 0
    for added in additions:
        chosen = tiers.to_merge(sizes, added)
        total = added + sum(sizes[place] for place in chosen)
        sizes = [size for place, size in enumerate(sizes) if place not in chosen] + [total]
        written += total
        most = max(most, len(sizes))
    return most, written


@pytest.mark.parametrize(
    "additions", [[1] * 1000, [1000, *[1] * 999], list(range(1, 500)), list(range(500, 0, -1))]
)
def test_segments_stay_few_and_rewriting_bounded(additions: list[int]) -> None:
    most, written = grown(additions)
    assert most <= tiers.MOST
    assert written <= 10 * sum(additions)


@given(st.lists(st.integers(0, 10**8), max_size=12), st.integers(0, 10**6))
def test_merging_what_is_to_be_merged_comes_to_an_end(sizes: list[int], added: int) -> None:
    for _ in range(len(sizes) + 2):
        chosen = tiers.to_merge(sizes, added)
        if not chosen and not added:
            break
        total = added + sum(sizes[place] for place in chosen)
        sizes = [size for place, size in enumerate(sizes) if place not in chosen] + [total]
        added = 0
    assert tiers.to_merge(sizes) == []


def test_few_segments_are_left_alone_and_a_large_one_is_not_rewritten_for_a_small_one() -> None:
    assert tiers.to_merge([5, 5], 5) == []
    assert tiers.to_merge([10**8, 10, 10, 10], 1) == [1, 2, 3]


def test_a_segment_is_rewritten_when_most_of_it_is_dead() -> None:
    assert tiers.is_wasteful(10, 6)
    assert not tiers.is_wasteful(10, 5)
