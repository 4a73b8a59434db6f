"""The order of the queue: Lotus', and that whoever waits rises."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.scheduler import table
from agent.scheduler.order import Policy, Queue
from agent.scheduler.requirement import Requirement
from agent.scheduler.tasks import BACKGROUND_PRIORITY, DEAL_PRIORITY, Task
from tests.agent.scheduler.machines import MIB, needs, task

SMALL = needs(1)


def ids(*tasks: Task) -> list[str]:
    return [one.id for one in Queue(tasks=tasks)]


def test_what_is_finishing_goes_before_what_begins_and_of_one_kind_the_first_that_came() -> None:
    kinds = ["verify", "check-inverted", "index", "fetch", "commp", "invert", "index"]
    tasks = [task(f"{kind}{number}", SMALL, kind=kind) for number, kind in enumerate(kinds)]
    assert ids(*tasks) == ["fetch3", "invert5", "index2", "index6", "commp4", "verify0", "check-inverted1"]


def test_priority_goes_before_kind_but_not_before_a_kind_that_keeps_others_waiting() -> None:
    tasks = [
        task("t1", SMALL, kind="verify", priority=DEAL_PRIORITY),
        task("t2", SMALL, kind="index"),
        task("t3", SMALL, kind="fetch", priority=BACKGROUND_PRIORITY),
        task("t4", SMALL, kind="index", priority=BACKGROUND_PRIORITY),
    ]
    assert ids(*tasks) == ["t3", "t1", "t2", "t4"]


def test_a_task_in_the_background_rises_until_new_ones_that_somebody_waits_for_come_after_it() -> None:
    old = task("t1", SMALL, priority=BACKGROUND_PRIORITY)
    assert ids(old, task("t2", SMALL, priority=DEAL_PRIORITY, at=540)) == ["t2", "t1"]
    assert ids(old, task("t2", SMALL, priority=DEAL_PRIORITY, at=661)) == ["t1", "t2"]


def test_tasks_that_come_within_a_step_of_ageing_keep_lotus_order() -> None:
    assert ids(task("t1", SMALL, kind="verify", at=1), task("t2", SMALL, kind="index", at=59)) == ["t2", "t1"]


def test_a_task_can_be_looked_up_and_taken_out() -> None:
    queue = Queue(tasks=[task("t1", SMALL), task("t2", SMALL)])
    assert (queue.get("t1"), queue.get("t3"), len(queue)) == (task("t1", SMALL), None, 2)
    assert task("t2", SMALL) in queue and task("t3", SMALL) not in queue
    assert queue.remove("t1") == task("t1", SMALL)
    assert (queue[0].id, queue[0:1], len(queue)) == ("t2", [task("t2", SMALL)], 1)
    with pytest.raises(KeyError):
        queue.remove("t1")
    with pytest.raises(ValueError, match="t2 waits already"):
        queue.add(task("t2", SMALL))


def test_those_that_wait_need_what_is_known_now_and_second_attempts_what_they_were_given() -> None:
    queue = Queue(tasks=[task("t1", needs(100)), task("t2", needs(200), attempt=2)])
    queue.revise(lambda kind, size_bytes: needs(50))
    queue.add(task("t3", needs(100)))
    assert [one.requirement.max_memory // MIB for one in queue] == [50, 200, 50]
    assert queue.remove("t1").requirement == needs(50)


@given(st.lists(st.integers(0, 1 << 37)))
def test_what_a_group_is_asked_for_holds_for_all_of_it(sizes: list[int]) -> None:
    queue = Queue(tasks=[task(f"t{number}", SMALL, size=size) for number, size in enumerate(sizes)])
    asked: list[int] = []

    def required(kind: str, size_bytes: int) -> Requirement:
        asked.append(size_bytes)
        return table.requirement(kind, size_bytes)

    queue.revise(required)
    for one in queue:
        least = table.requirement("index", one.size_bytes)
        assert one.requirement.max_memory >= least.max_memory and one.requirement.disk >= least.disk
    assert len(asked) <= 60
    assert [table.size_class(size) for size in sizes] == [
        table.size_class(table.about(size)) for size in sizes
    ]


times = st.floats(0, 10_000)
tasks = st.builds(
    lambda kind, priority, at, memory: task("t0", needs(memory), kind=kind, priority=priority, at=at),
    st.sampled_from(list(table.KINDS)), st.integers(-2000, 2000), times, st.integers(1, 3),
)  # fmt: skip


@given(st.lists(tasks), st.randoms(use_true_random=False))
def test_the_order_is_that_of_keys_however_tasks_come_and_go(some: list[Task], random: object) -> None:
    policy = Policy()
    named = [replace(one, id=f"t{number}", sequence=number) for number, one in enumerate(some)]
    queue = Queue(policy, sorted(named, key=lambda one: hash((one.sequence, 7))))
    gone = {one.id for one in named if one.sequence % 3 == 1}
    for id in gone:
        queue.remove(id)
    left = sorted((one for one in named if one.id not in gone), key=policy.key)
    assert list(queue) == left
    assert queue.first(3) == left[:3]


@given(tasks, tasks, st.floats(0, 10_000))
def test_nobody_is_overtaken_by_who_comes_long_after(one: Task, other: Task, later: float) -> None:
    """Of usual priorities, and a kind that goes first: after three times `ageing_s`, and a step of it."""
    policy = Policy()
    limit = 3 * policy.ageing_s + policy.ageing_step_s
    first = replace(one, priority=max(BACKGROUND_PRIORITY, min(DEAL_PRIORITY, one.priority)))
    second = replace(other, priority=max(BACKGROUND_PRIORITY, min(DEAL_PRIORITY, other.priority)), sequence=1)
    second = replace(second, queued_s=first.queued_s + limit + later)
    assert policy.key(first) < policy.key(second)
