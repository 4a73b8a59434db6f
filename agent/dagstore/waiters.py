"""Who waits for an answer about a shard: numbers for the lifecycle, events for the tasks."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import trio

from agent.dagstore.failures import Failure
from agent.dagstore.lifecycle import Waiter


@dataclass(eq=False, slots=True)
class Pending:
    """A waiter's answer, once there is one: a reference (`granted`), a failure, or neither, which means done."""

    answered: trio.Event = field(default_factory=trio.Event)
    granted: bool = False
    failure: Failure | None = None


class Waiters:
    """All that wait; each is answered at most once."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._pending: dict[Waiter, Pending] = {}

    def add(self) -> Waiter:
        """A new waiter; give it to `forget` when it has its answer or no longer wants one."""
        waiter = Waiter(next(self._numbers))
        self._pending[waiter] = Pending()
        return waiter

    def __getitem__(self, waiter: Waiter) -> Pending:
        return self._pending[waiter]

    def forget(self, waiter: Waiter) -> None:
        del self._pending[waiter]

    def grant(self, waiter: Waiter) -> None:
        """It holds a reference now."""
        self._pending[waiter].granted = True
        self._pending[waiter].answered.set()

    def answer(self, waiter: Waiter, failure: Failure | None) -> None:
        self._pending[waiter].failure = failure
        self._pending[waiter].answered.set()

    def fail_all(self, failure: Failure) -> None:
        """Answers all that have no answer yet."""
        for waiter, pending in self._pending.items():
            if not pending.answered.is_set():
                self.answer(waiter, failure)
