"""The keys of all shards, sorted, whatever came and went."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.dagstore.lifecycle import Life
from agent.dagstore.records import ShardRow
from agent.dagstore.shards import Shard, Shards


class NoRows:
    def row(self, key: str) -> ShardRow | None:
        return None


def shard(key: str) -> Shard:
    return Shard(key, Life(), NoRows())


@given(st.lists(st.one_of(st.none(), st.tuples(st.booleans(), st.sampled_from("abcdef")))))
def test_the_keys_are_those_that_there_are_and_sorted(steps: list[tuple[bool, str] | None]) -> None:
    """A step comes, goes, or looks (None)."""
    shards = Shards()
    for step in steps:
        if step is None:
            assert shards.sorted_keys() == sorted(shards)
        elif step[0]:
            shards[step[1]] = shard(step[1])
        elif step[1] in shards:
            del shards[step[1]]
    assert shards.sorted_keys() == sorted(shards)


def test_a_list_of_keys_stays_as_it_is_when_shards_come_and_go() -> None:
    shards = Shards()
    for key in "bca":
        shards[key] = shard(key)
    before = shards.sorted_keys()
    assert shards.sorted_keys() is before
    del shards["a"]
    shards["aa"] = shard("aa")
    assert (before, shards.sorted_keys()) == (["a", "b", "c"], ["aa", "b", "c"])
