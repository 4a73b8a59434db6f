"""Who has joined: takes workers in, hands them to the scheduler, and gives up those that are silent."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractContextManager, ExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Protocol

import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.workers.executor import Executor
from agent.workers.remote.executor import RemoteExecutor
from agent.workers.remote.messages import Hello, Report, ToWorker, Welcome
from agent.workers.remote.sessions import Session, refusal

logger = logging.getLogger(__name__)


class Joining(Protocol):
    """Where workers are joined: `agent.scheduler.scheduler.Scheduler`."""

    def join(self, executor: Executor) -> AbstractContextManager[object]:
        """For the time of the block it may be given tasks."""

    def poke(self) -> None:
        """What a worker has and can do may not be what it was: decides anew."""

    def set_enabled(self, worker: str, enabled: bool) -> None:
        """See `Scheduling.set_enabled`."""


class RemoteWorkers:
    """The workers that have joined one agent."""

    def __init__(
        self,
        scheduler: Joining,
        directory: Path,
        results: Path,
        proof: str,
        *,
        version: str,
        heartbeat_s: float,
    ) -> None:
        """`directory`: $CARFS_PATH; `results`: where what is made goes; `proof`: what `sights.write_proof` gave."""
        self._scheduler = scheduler
        self._directory = directory
        self._results = results
        self._proof = proof
        self._version = version
        self._heartbeat_s = heartbeat_s
        self._joined: dict[str, _Joined] = {}  # by the session's id

    def workers(self) -> tuple[RemoteExecutor, ...]:
        return tuple(joined.executor for joined in self._joined.values())

    @asynccontextmanager
    async def joined(self, hello: Hello) -> AsyncIterator[AsyncIterator[ToWorker]]:
        """A worker for the time of the block, and what is to be sent to it. Raises ShardError.

        One that joins again ends what it was before: its connection broke, which we were not told of.
        """
        refused = refusal(hello, self._version, len(self._joined))
        if refused is not None:
            raise refused
        if (before := self._joined.get(hello.session)) is not None:
            self._end(before, "it has joined anew")
        joined = self._enter(hello)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, joined)
                async with aclosing(self._messages(joined)) as messages:
                    yield messages
                nursery.cancel_scope.cancel()
        finally:
            self._end(joined, "its connection ended")

    def report(self, report: Report) -> None:
        """Takes what a worker has to say. Raises ShardError(not-found) where it was given up meanwhile."""
        joined = self._joined.get(report.session)
        if joined is None:
            raise ShardError(
                ErrorClass.NOT_FOUND, "this worker was given up, or never joined: it has to join anew"
            )
        before = joined.session.status.problem
        joined.executor.deliver(joined.session.take(report, trio.current_time()))
        problem = joined.session.status.problem
        if problem and problem != before:
            logger.warning("worker %s can do nothing: %s", joined.executor.name, problem)
        if report.status is not None:
            self._scheduler.poke()
        if joined.session.ended:
            self._end(joined, joined.session.ended)

    def _enter(self, hello: Hello) -> _Joined:
        session = Session(hello, secrets.token_urlsafe(16), self._heartbeat_s, trio.current_time())
        joined = _Joined(hello, session)
        joined.stack.enter_context(self._scheduler.join(joined.executor))
        self._joined[hello.session] = joined
        if not hello.enabled:
            self._scheduler.set_enabled(hello.session, False)
        kinds = ", ".join(sorted(joined.executor.able)) or "nothing that it could do"
        logger.info("worker %s has joined, for %s", hello.name, kinds)
        return joined

    def _end(self, joined: _Joined, reason: str) -> None:
        """Once; further calls change nothing."""
        joined.executor.end(reason)
        if self._joined.get(joined.executor.id) is joined:
            del self._joined[joined.executor.id]
            logger.info("worker %s is gone: %s", joined.executor.name, reason)
        joined.stack.close()

    async def _watch(self, joined: _Joined) -> None:
        """Gives it up when it is silent; apart from the sending, which may hang."""
        while not joined.session.ended:
            due_s = joined.session.lost_at_s
            await trio.sleep_until(due_s)
            if trio.current_time() > due_s + self._heartbeat_s / 2:
                await trio.sleep(
                    self._heartbeat_s
                )  # it is we who stood still: what came meanwhile is read first
            if reason := joined.session.silence(trio.current_time()):
                self._end(joined, reason)

    async def _messages(self, joined: _Joined) -> AsyncGenerator[ToWorker, None]:
        yield Welcome(
            joined.session.ticket, self._heartbeat_s, str(self._directory), str(self._results), self._proof,
            self._version,
        )  # fmt: skip
        async with aclosing(joined.executor.messages()) as messages:
            async for message in messages:
                yield message


class _Joined:
    """One join."""

    def __init__(self, hello: Hello, session: Session) -> None:
        self.session = session
        self.executor = RemoteExecutor(hello, session)
        self.stack = ExitStack()
