"""The schedule: spread, oldest first, paused while others work, no faster than allowed."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from agent.dagstore.scrub.schedule import (
    MAX_PAUSE_S,
    Schedule,
    ScrubConfig,
    due_at,
    pause_after,
    slice_bytes,
)

MIB = 1 << 20


def test_first_verifications_are_spread_over_the_interval() -> None:
    times = [due_at(1000.0, None, 500.0, partial(float, chance)) for chance in (0.0, 0.5, 0.999)]
    assert times == [1000.0, 1250.0, 1499.5]


def test_later_ones_come_an_interval_after_the_last_or_a_little_earlier() -> None:
    times = [due_at(0.0, 1000.0, 500.0, partial(float, chance)) for chance in (0.0, 1.0)]
    assert times == [1500.0, 1450.0]


def test_the_longest_overdue_comes_first_and_each_once() -> None:
    schedule = Schedule()
    for key, at_s in (("a", 30.0), ("b", 10.0), ("c", 20.0), ("d", 99.0)):
        schedule.put(key, at_s)
    schedule.put("b", 25.0)
    schedule.remove("a")
    assert (len(schedule), schedule.backlog(50.0), schedule.next_at()) == (3, 2, 20.0)
    assert [schedule.pop_due(50.0) for _ in range(3)] == ["c", "b", None]
    assert (schedule.next_at(), "d" in schedule, "c" in schedule) == (99.0, True, False)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | st.integers(0, 50)), max_size=40))
def test_it_is_a_table_of_times(steps: list[tuple[str, int | None]]) -> None:
    schedule, model = Schedule(), dict[str, float]()
    for name, at_s in steps:
        if at_s is None:
            schedule.remove(name)
            model.pop(name, None)
        else:
            schedule.put(name, at_s)
            model[name] = at_s
    assert schedule.next_at() == min(model.values(), default=None)
    given_out = []
    while (key := schedule.pop_due(25.0)) is not None:
        given_out.append((model.pop(key), key))
    assert given_out == sorted(given_out)
    assert all(at_s > 25 for at_s in model.values())


def test_it_reads_no_faster_than_allowed_and_no_more_than_its_share_of_the_time() -> None:
    config = ScrubConfig(bandwidth=100 * MIB, share=0.5)
    assert pause_after(200 * MIB, 0.5, config) == 1.5  # 2 s at that rate
    assert pause_after(200 * MIB, 8.0, config) == 8.0  # a slow disk: half of the time is others'
    assert pause_after(200 * MIB, 8.0, ScrubConfig(bandwidth=0, share=1.0)) == 0.0
    assert pause_after(1 << 40, 1.0, config) == MAX_PAUSE_S


def test_slices_are_as_large_as_five_seconds_and_never_tiny_nor_huge() -> None:
    sizes = [slice_bytes(ScrubConfig(bandwidth=each)) for each in (1, MIB, 10 * MIB, 1 << 40, 0)]
    assert sizes == [MIB, 5 * MIB, 50 * MIB, 256 * MIB, 256 * MIB]
