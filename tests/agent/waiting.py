"""Waiting for what another thread or process does."""

from __future__ import annotations

from collections.abc import Callable

import trio

DEADLINE_S = 30.0


async def until(condition: Callable[[], object]) -> None:
    """Returns when it holds: not long, and fails if it never does."""
    with trio.fail_after(DEADLINE_S):
        while not condition():
            await trio.sleep(0.005)
