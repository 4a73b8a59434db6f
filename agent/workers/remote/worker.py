"""The program of a remote worker: joins an agent, does what it is given in processes of its own, joins again.

What runs belongs to one join: when that ends, for whatever reason, its processes are killed, since the agent gives the
tasks to others. Nothing is lost by that, and nothing is done twice: see `staging`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import trio

from agent.workers.executor import Executor
from agent.workers.failures import WorkerBarred, WorkerDied, WorkerFailed, WorkerLost
from agent.workers.messages import Params
from agent.workers.remote import sights, staging
from agent.workers.remote.link import Link, LinkBroken, Refused
from agent.workers.remote.messages import (
    MISSED,
    PROTOCOL,
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
    Outcome,
    Progress,
    Status,
    ToWorker,
    Welcome,
    shown,
)
from agent.workers.remote.needs import RemoteNeeds
from agent.workers.remote.outgoing import MAX_TOGETHER_CHARACTERS, Outgoing

logger = logging.getLogger(__name__)

BACK_OFF_S = (0.1, 5.0)  # before the agent is tried again: at first, doubled each time, at most
LOOK_S = 30.0  # for a disk to answer when it is looked at whether it is the agent's
MAX_ERROR_CHARACTERS = 8000


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker is called and does."""

    session: str  # of chance, new at each start
    name: str
    kinds: frozenset[str] = staging.KINDS
    version: str = ""
    grace_s: float = 60.0  # for what runs, once it is to leave
    once: bool = False  # ends with the first join, or when there can be none


@dataclass(eq=False, slots=True)
class Leave:
    """Set from outside, by signals."""

    asked: trio.Event = field(default_factory=trio.Event)  # ends what runs, takes nothing new
    at_once: trio.CancelScope = field(default_factory=trio.CancelScope)


class RemoteWorker:
    """Joins over and over; `run` is all there is to call."""

    def __init__(self, settings: Settings, link: Link, executor: Executor, leave: Leave) -> None:
        self._settings = settings
        self._link = link
        self._executor = executor
        self._leave = leave
        self._enabled = True
        self._back_off_s = BACK_OFF_S[0]
        self._current: _Join | None = None

    def poke(self, _reason: object = None) -> None:
        """The limits have changed: the agent is told at once."""
        if self._current is not None:
            self._current.poke()

    async def run(self) -> None:
        """Until it has left. Raises Refused; with `once` LinkBroken, too. No process is left when this returns."""
        with self._leave.at_once:
            is_known_gone = False  # whether that was said already
            while not self._leave.asked.is_set():
                try:
                    reason = await self._join()
                    is_known_gone = True  # said below, once
                except (LinkBroken, Refused) as error:
                    if self._settings.once or (isinstance(error, Refused) and error.error_class != "busy"):
                        raise
                    reason = "" if is_known_gone else str(error)
                    is_known_gone = True
                if self._settings.once or self._leave.asked.is_set():
                    return
                if reason:
                    logger.warning("%s; joining again as soon as that works", reason)
                with trio.move_on_after(self._back_off_s):
                    await self._leave.asked.wait()
                self._back_off_s = min(2 * self._back_off_s, BACK_OFF_S[1])

    async def _join(self) -> str:
        """One join; why it has ended. Raises LinkBroken where there was none, Refused."""
        settings = self._settings
        kinds = sorted(settings.kinds & staging.KINDS & self._executor.kinds)
        status = Status(self._executor.snapshot())
        hello = Hello(
            PROTOCOL, settings.session, settings.name, kinds, status, settings.version, self._enabled
        )
        async with self._link.join(hello) as messages:
            welcome = await anext(aiter(messages), None)
            if not isinstance(welcome, Welcome):
                raise LinkBroken("the agent did not say welcome")
            self._back_off_s = BACK_OFF_S[0]
            logger.info("joined the agent at %s as %s", welcome.directory, settings.name)
            join = _Join(settings, self._link, self._executor, self._leave, welcome)
            self._current = join
            await join.run(messages)
            self._current = None
            self._enabled = join.enabled if join.was_told else self._enabled
        if join.refused is not None:
            raise join.refused
        return join.reason


class _Join:
    """One join, from its welcome to its end."""

    def __init__(
        self, settings: Settings, link: Link, executor: Executor, leave: Leave, welcome: Welcome
    ) -> None:
        self.reason = "the agent has ended the connection"
        self.refused: Refused | None = None
        self.enabled = True
        self.was_told = False
        self._settings = settings
        self._link = link
        self._executor = executor
        self._leave = leave
        self._welcome = welcome
        self._outgoing = Outgoing(settings.session, welcome.ticket)
        self._something_to_say = trio.Event()
        self._scopes: dict[str, trio.CancelScope] = {}  # by assignment
        self._tasks: dict[str, str] = {}  # likewise
        self._needs: dict[str, RemoteNeeds] = {}  # likewise
        self._idle = trio.Event()
        self._problem = "it has not looked yet whether it sees the folder of the agent"
        self._disk_left = 0
        self._scope = trio.CancelScope()

    def poke(self) -> None:
        """Has a report sent now."""
        self._something_to_say.set()

    async def run(self, messages: AsyncIterator[ToWorker]) -> None:
        """Does what it is told; nothing of it runs any more when this returns."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look)
                nursery.start_soon(self._report)
                nursery.start_soon(self._leave_when_asked)
                try:
                    async for message in messages:
                        self._take(message, nursery)
                        if isinstance(message, End):
                            break
                except LinkBroken as error:
                    self.reason = str(error)
                except Refused as error:
                    self.reason = str(error)
                self._scope.cancel()

    def _take(self, message: ToWorker, nursery: trio.Nursery) -> None:
        match message:
            case Assign():
                self._scopes[message.assignment] = trio.CancelScope()
                self._tasks[message.assignment] = message.task.id
                nursery.start_soon(self._do, message)
            case Cancel(assignment):
                if (scope := self._scopes.get(assignment)) is not None:
                    scope.cancel()
            case Answer():
                if (needs := self._needs.get(message.assignment)) is not None:
                    needs.answered(message)
            case Enabled(enabled):
                self.enabled, self.was_told = enabled, True
                logger.info(
                    "the agent %s", "gives tasks again" if enabled else "gives nothing new: disabled there"
                )
            case End(reason):
                self.reason = f"the agent has given this worker up: {reason}"
            case Welcome():
                pass

    async def _do(self, assign: Assign) -> None:
        """One assignment, to its outcome; nothing is said where the join ends first."""
        task, assignment = assign.task, assign.assignment
        name = f"{task.kind} of {task.subject}" if task.subject else task.kind
        logger.info("%s: begins", name)
        try:
            with self._scopes[assignment] as scope:
                outcome = await self._outcome(assign)
            if scope.cancelled_caught:
                outcome = Cancelled(assignment)
        finally:
            for table in (self._scopes, self._tasks, self._needs):
                table.pop(assignment, None)
            if not self._scopes:
                self._idle.set()
        logger.info("%s: %s", name, type(outcome).__name__.lower())
        self._say(outcome)

    async def _outcome(self, assign: Assign) -> Outcome:
        assignment = assign.assignment
        try:
            given = json.loads(assign.text)
            params: Params = given["params"]
            barred = await self._seen(msgspec.convert(given["sights"], list[sights.Sight]))
            if barred:
                return Barred(assignment, barred)
            needs = self._needs[assignment] = RemoteNeeds(assignment, self._say)
            done = await self._executor.execute(
                assign.task, params, self._progress_of(assignment), needs, memory_limit=assign.memory_limit
            )
            text = json.dumps(done.result)
            if len(text) > MAX_TOGETHER_CHARACTERS:
                return Failed(
                    assignment, "bug", f"a result of {len(text)} characters, which is too long to be sent"
                )
            return Finished(assignment, text, done.peak_bytes)
        except (WorkerBarred, WorkerLost) as error:
            return Barred(assignment, _words(error))
        except WorkerDied as error:
            return Died(assignment, _words(error), error.returncode, error.out_of_memory)
        except WorkerFailed as error:
            return Failed(assignment, error.error_class.value, _words(error))
        except Exception as error:  # the boundary of the program: the agent gets an answer
            logger.exception("%s of %s", assign.task.kind, assign.task.subject)
            return Failed(assignment, "bug", _words(f"{type(error).__name__}: {error}"))

    def _progress_of(self, assignment: str) -> Callable[[int, int], None]:
        return lambda done, total: self._say(Progress(assignment, done, total))

    async def _seen(self, due: list[sights.Sight]) -> str:
        """Why the task cannot be done here; empty if what it needs is seen."""
        directory, proof = Path(self._welcome.directory), self._welcome.proof
        found = f"the disk of {directory}, or of the data, did not answer in {LOOK_S:g} s"
        with trio.move_on_after(LOOK_S):
            found = await trio.to_thread.run_sync(
                lambda: sights.trouble_with(directory, proof) or sights.difference(due),
                abandon_on_cancel=True,
            )
        return shown(found)

    async def _look(self) -> None:
        """Looks again and again whether the agent's folder is seen here, and how much of the disk is left."""
        while True:
            problem = await self._seen([])
            if not problem:
                with trio.move_on_after(LOOK_S):
                    self._disk_left = await trio.to_thread.run_sync(
                        sights.disk_left, self._welcome.results, abandon_on_cancel=True
                    )
            if problem != self._problem:
                self._problem = problem
                if problem:
                    logger.warning("nothing can be done here: %s", problem)
                self._something_to_say.set()
            await trio.sleep(self._welcome.heartbeat_s)

    def _say(self, message: FromWorker) -> None:
        self._outgoing.put(message)
        self._something_to_say.set()

    async def _report(self) -> None:
        """Says what there is to say, and each heartbeat how we are; ends the join when the agent does not take it."""
        heartbeat_s = self._welcome.heartbeat_s
        taken_s = trio.current_time()
        while True:
            with trio.move_on_after(heartbeat_s):
                await self._something_to_say.wait()
            self._something_to_say = trio.Event()
            while True:
                report = self._outgoing.report(self._status())
                try:
                    await self._link.report(report, timeout_s=heartbeat_s)
                except LinkBroken as error:
                    if trio.current_time() - taken_s >= MISSED * heartbeat_s:
                        self._over(f"{error}, {MISSED} times")
                    await trio.sleep(BACK_OFF_S[0])
                    continue
                except Refused as error:
                    self._over(str(error), None if error.error_class == "not-found" else error)
                    await trio.sleep_forever()
                taken_s = trio.current_time()
                self._outgoing.taken()
                if self._outgoing.is_empty:
                    break

    def _over(self, reason: str, refused: Refused | None = None) -> None:
        self.reason, self.refused = reason, refused
        self._scope.cancel()

    def _status(self) -> Status:
        used = {one: self._executor.used_bytes(task) for one, task in self._tasks.items()}
        return Status(self._executor.snapshot(), self._disk_left, used, self._problem)

    async def _leave_when_asked(self) -> None:
        await self._leave.asked.wait()
        self._say(Leaving())
        if self._scopes:
            count, grace_s = len(self._scopes), self._settings.grace_s
            logger.info(
                "leaving: %d tasks have %g s to end; one more signal ends them at once", count, grace_s
            )
            self._idle = trio.Event()
            with trio.move_on_after(grace_s) as waiting:
                await self._idle.wait()
            if waiting.cancelled_caught:
                logger.warning(
                    "%d tasks have not ended in %g s: killed, others will do them", len(self._scopes), grace_s
                )
        self._say(Leaving(done=True))  # after all outcomes; what comes then is the end of the join


def _words(error: object) -> str:
    return shown(str(error))[:MAX_ERROR_CHARACTERS]
