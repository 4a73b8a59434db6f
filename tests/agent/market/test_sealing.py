"""An operator's program for sealing: how long a call may take, how many run at once, and what unsealing holds up."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.market.records import DealRow, Placed, Proposal
from agent.market.sealing import CommandSealing
from agent.market.settings import MarketConfig
from agent.market.transitions import State

PROGRAM = """
import pathlib, sys, time
home, verb = pathlib.Path(sys.argv[1]), sys.argv[2]
(home / verb).open("a").write("x")
while not (home / f"{verb}-may").exists():
    time.sleep(0.01)
print({"unseal": '{"File": "/sector", "Offset": 0}', "is-unsealed": '{"Unsealed": true}'}[verb])
"""
DEAL = DealRow(1, Proposal("bafkqaaa", "baga", 256, "http://192.0.2.1"), "x", State.SEALING, "now", "now")


def sealing(home: Path, **settings: object) -> CommandSealing:
    command = (sys.executable, "-c", PROGRAM, str(home))
    return CommandSealing(MarketConfig(sealing_command=command, **settings))  # type: ignore[arg-type]  # as given


async def begun(home: Path, verb: str, count: int) -> None:
    """Returns when so many calls have begun, and no more do for a while."""
    with trio.fail_after(30):
        while not (home / verb).exists() or (home / verb).stat().st_size < count:
            await trio.sleep(0.01)
    await trio.sleep(0.3)
    assert (home / verb).stat().st_size == count


async def test_a_call_that_does_not_come_back_is_an_error_that_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"market\.sealing_timeout_s") as caught:
        await sealing(tmp_path, sealing_timeout_s=0.3).is_unsealed(DEAL)
    assert caught.value.error_class is ErrorClass.BUSY


@pytest.mark.parametrize("limit", [1, 3])
async def test_x2_as_many_pieces_are_unsealed_at_once_as_allowed_and_hold_up_nobody_else(
    tmp_path: Path, limit: int
) -> None:
    program = sealing(tmp_path, max_concurrent_unseals=limit, max_concurrent_sealing=1)
    found: list[Placed] = []

    async def unseal() -> None:
        found.append(await program.unseal(DEAL))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(unseal)
        await begun(tmp_path, "unseal", limit)
        (tmp_path / "is-unsealed-may").touch()
        with trio.fail_after(30):
            assert await program.is_unsealed(DEAL)
        assert found == []
        (tmp_path / "unseal-may").touch()
    assert [placed.file for placed in found] == ["/sector"] * 4


@pytest.mark.parametrize("limit", [1, 2])
async def test_as_many_other_calls_run_at_once_as_allowed(tmp_path: Path, limit: int) -> None:
    program = sealing(tmp_path, max_concurrent_sealing=limit)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(program.is_unsealed, DEAL)
        await begun(tmp_path, "is-unsealed", limit)
        (tmp_path / "is-unsealed-may").touch()
    assert (tmp_path / "is-unsealed").stat().st_size == 4
