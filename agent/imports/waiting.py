"""Who waits for an import: numbers for the lifecycle, events for the tasks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from agent.dagstore.failures import Failure
from agent.imports.transitions import Waiter


@dataclass(frozen=True, slots=True)
class Outcome:
    """The import that was asked for, or an `existing` one that has the same root."""

    number: int
    existing: bool = False


@dataclass(eq=False, slots=True)
class Pending:
    """A waiter's answer, once there is one."""

    answered: trio.Event = field(default_factory=trio.Event)
    failure: Failure | None = None
    existing: int = 0


class Waiting:
    """All that wait; each is answered at most once."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._pending: dict[Waiter, Pending] = {}

    @contextmanager
    def one(self) -> Iterator[tuple[Waiter, Pending]]:
        """A new waiter, for the time of the block."""
        waiter, pending = Waiter(next(self._numbers)), Pending()
        self._pending[waiter] = pending
        try:
            yield waiter, pending
        finally:
            del self._pending[waiter]

    def answer(self, waiter: Waiter, failure: Failure | None, existing: int = 0) -> None:
        """Does nothing if it no longer waits."""
        pending = self._pending.get(waiter)
        if pending is not None and not pending.answered.is_set():
            pending.failure, pending.existing = failure, existing
            pending.answered.set()

    def fail(self, waiters: Iterable[Waiter], failure: Failure) -> None:
        for waiter in waiters:
            self.answer(waiter, failure)

    def fail_all(self, failure: Failure) -> None:
        """Answers all that have no answer yet."""
        self.fail(list(self._pending), failure)
