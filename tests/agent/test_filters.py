"""Which shards a call is about: filters, pages that miss nothing, and counts."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dagstore.failures import ErrorClass, Failure, ShardError
from agent.dagstore.lifecycle import Life, ShardState
from agent.rpc.filters import MAX_PAGE, Counts, Filter, Page, Tally

GONE = Life(ShardState.ERRORED, failure=Failure(ErrorClass.GONE, "gone"))
BUSY = Life(ShardState.ERRORED, failure=Failure(ErrorClass.BUSY, "busy"))
NEW = Life(ShardState.NEW)
SERVING = Life(ShardState.SERVING, refs=3)
LIVES = {"a": NEW, "b/1": GONE, "b/2": BUSY, "b/3": SERVING, "c[": NEW, "ü": SERVING}


def keys(**more: object) -> list[str]:
    return [key for key, _ in msgspec.convert(more, Page).page(sorted(LIVES), LIVES.get)]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, ["a", "b/1", "b/2", "b/3", "c[", "ü"]),
        ({"States": ["ShardStateNew"]}, ["a", "c["]),
        ({"States": ["serving", "New"]}, ["a", "b/3", "c[", "ü"]),
        ({"ErrorClasses": ["gone"]}, ["b/1"]),
        ({"ErrorClasses": ["gone", "busy"], "States": ["Errored"]}, ["b/1", "b/2"]),
        ({"Prefix": "b/"}, ["b/1", "b/2", "b/3"]),
        ({"Prefix": "ü"}, ["ü"]),
        ({"Prefix": "zz"}, []),
        ({"Glob": "b/[13]"}, ["b/1", "b/3"]),
        ({"Glob": "*"}, ["a", "b/1", "b/2", "b/3", "c[", "ü"]),
        ({"Glob": "?"}, ["a", "ü"]),
        ({"Glob": "c["}, ["c["]),
        ({"After": "b/2"}, ["b/3", "c[", "ü"]),
        ({"After": "b/2x"}, ["b/3", "c[", "ü"]),
        ({"After": "b/1", "Prefix": "b/", "Limit": 1}, ["b/2"]),
        ({"Limit": 2}, ["a", "b/1"]),
        ({"Limit": 0}, ["a", "b/1", "b/2", "b/3", "c[", "ü"]),
    ],
    ids=str,
)
def test_shards_that_fit_all_that_is_given_are_found(given: dict[str, object], found: list[str]) -> None:
    assert keys(**given) == found


@pytest.mark.parametrize("state", ["Unknown", "ShardStateUnknown", "neww", ""])
def test_a_state_that_there_is_not_is_named(state: str) -> None:
    with pytest.raises(
        ShardError, match=f"no such state: '{state}'; there is New, Initializing, Available, Serving"
    ):
        Filter(states=(state,)).chosen([], LIVES.get)


def test_a_page_is_bounded() -> None:
    with pytest.raises(msgspec.ValidationError):
        keys(Limit=MAX_PAGE + 1)


def test_counts_are_of_what_is_given() -> None:
    tally = Tally()
    assert tally.counts() == Counts(0, 0, {}, {})
    for life in LIVES.values():
        tally.add(life)
    assert tally.counts() == Counts(
        6,
        6,
        {"ShardStateErrored": 2, "ShardStateNew": 2, "ShardStateServing": 2},
        {"busy": 1, "gone": 1},
    )


def test_a_shard_that_is_destroyed_meanwhile_is_left_out() -> None:
    lives = dict(LIVES)
    chosen = Filter().chosen(sorted(lives), lives.get)
    next(chosen)
    del lives["b/1"]
    assert next(chosen)[0] == "b/2"


@given(st.sets(st.text(min_size=1, max_size=3), max_size=20), st.integers(1, 4), st.text(max_size=1))
def test_pages_one_after_the_other_are_the_whole(names: set[str], limit: int, prefix: str) -> None:
    lives = dict.fromkeys(names, NEW)
    found: list[str] = []
    while page := list(
        Page(limit=limit, prefix=prefix, after=found[-1] if found else "").page(sorted(names), lives.get)
    ):
        found += [key for key, _ in page]
    assert found == sorted(name for name in names if name.startswith(prefix))
