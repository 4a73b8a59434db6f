"""A worker that has joined, as the scheduler sees it: an `Executor` whose tasks run elsewhere."""

from __future__ import annotations

import json
import logging
import math
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import replace

import msgspec
import trio

from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.resources.facts import Snapshot
from agent.scheduler.tasks import Task
from agent.workers.executor import Done, Needs
from agent.workers.failures import WorkerBarred, WorkerDied, WorkerFailed, WorkerLost
from agent.workers.messages import Params
from agent.workers.remote import staging
from agent.workers.remote.messages import (
    Answer,
    Assign,
    Barred,
    Cancel,
    Cancelled,
    Died,
    Enabled,
    End,
    Failed,
    Finished,
    FromWorker,
    Hello,
    Leaving,
    Need,
    Outcome,
    Progress,
    ToWorker,
    Want,
    shown,
)
from agent.workers.remote.sessions import Session
from agent.workers.remote.sights import Sight, sights
from agent.workers.remote.staging import Staged

logger = logging.getLogger(__name__)

CANCEL_WAIT_S = (
    10.0  # for a worker to say that it has killed a process; it is given up soon after that anyway
)


class RemoteExecutor:
    """One join of one worker; `end` ends it, once and for all."""

    def __init__(self, hello: Hello, session: Session) -> None:
        self.id = hello.session
        self.name = hello.name
        self.able = frozenset(hello.kinds) & staging.KINDS
        self.kinds: frozenset[str] = frozenset()  # none until it says that it sees our folder
        self.barred = ""  # why it could not do the last task that it refused
        self._session = session
        self._outbox: deque[ToWorker] = deque()
        self._arrived = trio.Event()
        self._inboxes: dict[str, trio.MemorySendChannel[FromWorker]] = {}  # by assignment
        self._assignments: dict[str, str] = {}  # by task

    @property
    def note(self) -> str:
        """Why it can do nothing, or could not do something; for people."""
        return self._session.status.problem or self.barred

    def snapshot(self) -> Snapshot:
        return self._session.status.snapshot

    def disk_left(self) -> int:
        return self._session.status.disk_left

    def used_bytes(self, task_id: str) -> int:
        return self._session.status.used.get(self._assignments.get(task_id, ""), 0)

    def set_enabled(self, enabled: bool) -> None:
        """Tells the worker whether it is given anything new, which is decided elsewhere."""
        self._put(Enabled(enabled))

    async def execute(
        self,
        task: Task,
        params: Params,
        progress: Callable[[int, int], None] | None,
        needs: Needs | None,
        *,
        memory_limit: int,
    ) -> Done:
        """See `Executor.execute`. What the worker wrote has its name when this returns, and is gone if it raises."""
        self._refuse_or_pass(task)
        staged = Staged(task.kind, params, secrets.token_hex(8))
        assignment = staged.assignment
        try:
            try:
                text = await trio.to_thread.run_sync(_prepared, staged, abandon_on_cancel=True)
            except OSError as error:
                raise WorkerFailed(class_of_os_error(error), f"{staged.folder}: {error.strerror}") from error
            self._refuse_or_pass(task)
            told = replace(task, subject=shown(task.subject))
            self._assignments[task.id] = assignment
            outcome = await self._outcome(Assign(assignment, told, memory_limit, text), progress, needs)
            return await self._done(outcome, staged)
        finally:
            self._assignments.pop(task.id, None)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(staged.discard)

    def deliver(self, messages: Iterable[FromWorker]) -> None:
        """Takes what the worker said, after `Session.take`."""
        for message in messages:
            if isinstance(message, Leaving):
                if message.done:
                    self.end("it has left")
            elif (inbox := self._inboxes.get(message.assignment)) is not None:
                inbox.send_nowait(message)
        is_ready = not (self._session.status.problem or self._session.leaving or self._session.ended)
        self.kinds = self.able if is_ready else frozenset()

    def end(self, reason: str) -> None:
        """Gives the worker up: its tasks raise WorkerLost, and nothing more is taken from it."""
        if not self._session.end(reason):
            return
        self.kinds = frozenset()
        self._put(End(reason))
        for inbox in self._inboxes.values():
            inbox.close()

    async def messages(self) -> AsyncGenerator[ToWorker, None]:
        """What is to be sent to the worker, up to its end."""
        while True:
            while self._outbox:
                message = self._outbox.popleft()
                yield message
                if isinstance(message, End):
                    return
            self._arrived = trio.Event()
            await self._arrived.wait()

    def _put(self, message: ToWorker) -> None:
        self._outbox.append(message)
        self._arrived.set()

    def _refuse_or_pass(self, task: Task) -> None:
        session = self._session
        if session.ended or session.leaving:  # it was not, when this was decided; nor was the next
            raise WorkerLost(f"worker {self.name}: {session.ended or 'it is leaving'}")
        if session.status.problem:
            raise WorkerBarred(f"worker {self.name}: {session.status.problem}")
        if task.kind not in self.kinds:
            raise WorkerBarred(f"worker {self.name} does not do {task.kind}")

    async def _outcome(
        self, assign: Assign, progress: Callable[[int, int], None] | None, needs: Needs | None
    ) -> Outcome:
        """The last word about an assignment; raises WorkerLost. Cancelled, nothing runs any more for it."""
        inbox, words = trio.open_memory_channel[FromWorker](math.inf)
        self._inboxes[assign.assignment] = inbox
        self._session.assigned(assign.assignment)
        self._put(assign)
        is_over = False
        outcome: Outcome | None = None
        try:
            async with trio.open_nursery() as answering:
                outcome = await self._followed(words, progress, needs, answering)
                is_over = True
                answering.cancel_scope.cancel()
        finally:
            if not is_over:
                await self._call_off(assign.assignment, words)
            del self._inboxes[assign.assignment]
        if outcome is None or isinstance(outcome, Cancelled):
            raise WorkerLost(f"worker {self.name}: {self._session.ended or 'it has stopped the task'}")
        return outcome

    async def _followed(
        self,
        words: trio.MemoryReceiveChannel[FromWorker],
        progress: Callable[[int, int], None] | None,
        needs: Needs | None,
        answering: trio.Nursery,
    ) -> Outcome | None:
        """None if the worker is lost."""
        async for word in words:
            match word:
                case Progress(_, done, total):
                    if progress is not None:
                        progress(done, total)
                case Need():
                    answering.start_soon(self._answer, needs, word)
                case Want(_, ranges):
                    if needs is not None:
                        needs.hint(ranges)
                case Finished() | Failed() | Died() | Barred() | Cancelled():
                    return word
        return None

    async def _answer(self, needs: Needs | None, need: Need) -> None:
        try:
            if needs is None:
                raise ShardError(ErrorClass.BUG, "this task has no transient to read")
            await (needs.renew if need.again else needs.ensure)(need.offset, need.length)
        except ShardError as error:
            self._put(Answer(need.assignment, need.number, error.error_class.value, shown(str(error))))
        except Exception as error:
            logger.exception("getting bytes for worker %s failed", self.name)
            message = shown(f"{type(error).__name__}: {error}")
            self._put(Answer(need.assignment, need.number, ErrorClass.BUG.value, message))
        else:
            self._put(Answer(need.assignment, need.number))

    async def _call_off(self, assignment: str, words: trio.MemoryReceiveChannel[FromWorker]) -> None:
        """Has the process killed, and waits until it was, or the worker is lost, or that takes too long."""
        self._put(Cancel(assignment))
        with trio.CancelScope(shield=True), trio.move_on_after(CANCEL_WAIT_S) as waiting:
            async for word in words:
                if isinstance(word, Finished | Failed | Died | Barred | Cancelled):
                    return
        if waiting.cancelled_caught:
            logger.warning("worker %s does not say that it has killed what was called off", self.name)

    async def _done(self, outcome: Outcome, staged: Staged) -> Done:
        match outcome:
            case Finished(_, text, peak_bytes):
                try:
                    result = json.loads(text)
                    await trio.to_thread.run_sync(staged.accept)
                except (OSError, ValueError) as error:
                    raise self._bars(f"its result cannot be used: {error}") from error
                return Done(result, peak_bytes)
            case Failed(_, error_class, message):
                raise WorkerFailed(_class(error_class), message)
            case Died(_, message, returncode, is_oom):
                raise WorkerDied(f"worker {self.name}: {message}", returncode, out_of_memory=is_oom)
            case Barred(_, reason):
                raise self._bars(reason)
        raise AssertionError(f"{outcome} is no outcome here")

    def _bars(self, reason: str) -> WorkerBarred:
        self.barred = reason
        logger.warning("worker %s: %s", self.name, reason)
        return WorkerBarred(f"worker {self.name}: {reason}")


def _prepared(staged: Staged) -> str:
    """Makes the attempt's folder, and what goes to the worker; for a thread. Raises OSError."""
    staged.make()
    seen = sights(staged.params)
    if staged.folder is not None:
        seen.append(Sight(str(staged.folder)))
    return json.dumps({"params": staged.params, "sights": msgspec.to_builtins(seen)})


def _class(text: str) -> ErrorClass:
    try:
        return ErrorClass(text)
    except ValueError:  # of a newer carfs
        return ErrorClass.BUG
