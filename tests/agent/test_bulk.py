"""Many shards one after another: each is told of twice, in order, and not more at once than allowed."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from agent.dagstore.bulk import Step, in_bulk
from agent.dagstore.failures import ErrorClass, ShardError

KEYS = ["a", "b", "c", "d"]


class Acts:
    """Something that can be done to shards when a test lets it; counts how much of it is under way."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.under_way = self.most = 0
        self.begun: list[str] = []

    async def __call__(self, key: str) -> None:
        self.begun.append(key)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        if key == "b":
            raise ShardError(ErrorClass.GONE, "it is gone", key=key)


async def test_each_shard_starts_and_ends_and_counts_are_of_what_is_done() -> None:
    acts = Acts()
    acts.gate.set()
    async with in_bulk(KEYS, acts, limit=1) as steps:
        told = [step async for step in steps]
    assert told[:4] == [
        Step("a", "start", False, "", 4, 1),
        Step("a", "end", True, "", 4, 1),
        Step("b", "start", False, "", 4, 2),
        Step("b", "end", False, "it is gone", 4, 2),
    ]
    assert [(step.key, step.current) for step in told if step.event == "end"] == list(
        zip(KEYS, [1, 2, 3, 4], strict=True)
    )


async def test_a_limit_is_kept_and_none_is_none() -> None:
    for limit, most in ((1, 1), (3, 3), (0, 4), (9, 4)):
        acts = Acts()
        async with in_bulk(KEYS, acts, limit=limit) as steps, trio.open_nursery() as nursery:
            nursery.start_soon(_drain, steps)
            await wait_all_tasks_blocked()
            acts.gate.set()
        assert acts.most == most


async def _drain(steps: object) -> None:
    async for _ in steps:  # type: ignore[attr-defined]  # an async iterator
        pass


async def test_r2_who_leaves_calls_off_the_rest_even_if_nobody_reads() -> None:
    """In Lotus the pump waits on its channel whatever the caller's context says."""
    acts = Acts()
    with trio.fail_after(5):
        async with in_bulk(KEYS, acts, limit=2) as steps:
            await anext(steps)
            await wait_all_tasks_blocked()
    assert (acts.under_way, acts.begun) == (0, ["a"])


async def test_nothing_to_do_is_an_empty_stream() -> None:
    async with in_bulk([], Acts(), limit=0) as steps:
        assert [step async for step in steps] == []
