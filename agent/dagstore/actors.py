"""Who acts, for the history of shards: set where a request or a task of ours begins, read where a line is written.

It follows the flow of control (a context variable), since what was begun for a client goes through many hands.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_actor: ContextVar[str] = ContextVar("actor", default="agent")


def actor() -> str:
    """Who acts now: "rpc: process 123 uid 0", "agent: restart", "agent: retry 2 of 5", "agent"."""
    return _actor.get()


@contextmanager
def acting(who: str) -> Iterator[None]:
    """For the time of the block, and in tasks begun in it, `who` acts."""
    token = _actor.set(who)
    try:
        yield
    finally:
        _actor.reset(token)
