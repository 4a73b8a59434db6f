"""Turns: one at a time for each name, and nothing is left of a name that nobody waits for."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from agent.dagstore.transients.turns import Turns


async def test_one_at_a_time_has_the_turn_of_a_name_and_other_names_are_free() -> None:
    turns, begun, gate = Turns(), list[str](), trio.Event()

    async def take(name: str) -> None:
        async with turns.of(name):
            begun.append(name)
            await gate.wait()

    async with trio.open_nursery() as nursery:
        for name in "aab":
            nursery.start_soon(take, name)
        await wait_all_tasks_blocked()
        assert sorted(begun) == ["a", "b"]
        assert "a" in turns
        gate.set()
    assert sorted(begun) == ["a", "a", "b"]
    assert "a" not in turns


async def test_who_is_cancelled_while_he_waits_leaves_nothing_behind() -> None:
    turns = Turns()
    async with turns.of("a"):
        with trio.move_on_after(0):
            async with turns.of("a"):
                raise AssertionError
        assert "a" in turns
    assert "a" not in turns
