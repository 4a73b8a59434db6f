"""What a task at a remote worker lacks of a transient: asked of the agent, which fills it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.workers.remote.messages import Answer, FromWorker, Need, Want


class RemoteNeeds:
    """The `Needs` of one assignment; `say` sends to the agent, `answered` takes what comes back."""

    def __init__(self, assignment: str, say: Callable[[FromWorker], None]) -> None:
        self._assignment = assignment
        self._say = say
        self._numbers = itertools.count(1)
        self._asked: dict[int, trio.Event] = {}
        self._answers: dict[int, Answer] = {}

    async def ensure(self, offset: int, length: int) -> None:
        await self._ask(offset, length, again=False)

    async def renew(self, offset: int, length: int) -> None:
        await self._ask(offset, length, again=True)

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        self._say(Want(self._assignment, list(ranges)))

    def answered(self, answer: Answer) -> None:
        if (event := self._asked.get(answer.number)) is not None:
            self._answers[answer.number] = answer
            event.set()

    async def _ask(self, offset: int, length: int, *, again: bool) -> None:
        number = next(self._numbers)
        self._asked[number] = trio.Event()
        try:
            self._say(Need(self._assignment, number, offset, length, again))
            await self._asked[number].wait()  # as long as fetching takes; it ends with the join
            answer = self._answers[number]
        finally:
            del self._asked[number]
            self._answers.pop(number, None)
        if answer.error_class:
            raise ShardError(ErrorClass(answer.error_class), answer.error)
