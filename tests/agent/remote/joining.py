"""Both halves of a remote worker in one trio loop, with a wire between them that a test can cut."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from agent.dagstore.failures import ShardError
from agent.resources.facts import Bound, Mode, Snapshot
from agent.scheduler.requirement import Requirement
from agent.scheduler.tasks import Task
from agent.workers.executor import Done, Executor, Needs
from agent.workers.messages import Params
from agent.workers.remote import sights, staging
from agent.workers.remote.executor import RemoteExecutor
from agent.workers.remote.joining import RemoteWorkers
from agent.workers.remote.link import LinkBroken, Refused
from agent.workers.remote.messages import Hello, Report, Status, ToWorker
from agent.workers.remote.worker import Leave, RemoteWorker, Settings

HEARTBEAT_S = 5.0
DEADLINE_S = 60.0


def snapshot(memory: int = 1 << 30) -> Snapshot:
    bound = Bound(limit=memory, headroom=memory)
    return Snapshot(Mode.NONE, (), (), bound, Bound(), Bound(limit=1000), Bound(), None)


def hello(session: str = "s1", **changes: Any) -> Hello:  # Any: whatever the fields are
    made = Hello(1, session, "far", sorted(staging.KINDS), Status(snapshot()), "1.2")
    return msgspec.structs.replace(made, **changes)


def task(kind: str = "verify", name: str = "t1") -> Task:
    return Task(name, kind, f"the subject of {name}", 100, 0, Requirement(1, 1), 1, 0.0)


async def eventually(
    condition: Callable[[], object], *, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Gives others turns, and threads time, until it is as expected; the clock of the test may stand still."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        meanwhile()
        await trio.to_thread.run_sync(time.sleep, 0.001)


class Board:
    """A `Joining`: who is joined, and what it was told."""

    def __init__(self) -> None:
        self.executors: list[Executor] = []
        self.changes = 0
        self.enabled: dict[str, bool] = {}

    @contextmanager
    def join(self, executor: Executor) -> Iterator[None]:
        self.executors.append(executor)
        try:
            yield
        finally:
            self.executors.remove(executor)

    def poke(self) -> None:
        self.changes += 1

    def set_enabled(self, worker: str, enabled: bool) -> None:
        self.enabled[worker] = enabled

    async def ready(self) -> RemoteExecutor:
        """The one worker, once it may be given something."""
        await eventually(lambda: any(executor.kinds for executor in self.executors))
        (executor,) = self.executors
        assert isinstance(executor, RemoteExecutor)
        return executor


class Hands:
    """An `Executor` of the worker's program, which does what the test says."""

    def __init__(self, kinds: frozenset[str] = staging.KINDS) -> None:
        self.id, self.name, self.kinds = "hands", "hands", kinds
        self.begun: list[Task] = []
        self.params: list[Params] = []
        self.limits: list[int] = []
        self.killed: list[str] = []
        self.running = 0
        self.memory = 1 << 20
        self.work: Callable[[Params, Any, Needs | None], Any] = self._at_once  # Any: a coroutine

    @staticmethod
    async def _at_once(params: Params, _progress: Any, _needs: Needs | None) -> Params:
        return {"got": params}

    @staticmethod
    async def for_ever(*_: Any) -> Params:
        await trio.sleep_forever()
        raise AssertionError("for ever has ended")

    def snapshot(self) -> Snapshot:
        return snapshot(self.memory)

    def disk_left(self) -> int:
        return 0  # the program does not know where results will go

    def used_bytes(self, task_id: str) -> int:
        return 42 if self.running else 0

    async def execute(
        self,
        task: Task,
        params: Params,
        progress: Callable[[int, int], None] | None,
        needs: Needs | None,
        *,
        memory_limit: int,
    ) -> Done:
        self.begun.append(task)
        self.params.append(params)
        self.limits.append(memory_limit)
        self.running += 1
        try:
            return Done(await self.work(params, progress, needs), 99)
        except trio.Cancelled:
            self.killed.append(task.id)
            raise
        finally:
            self.running -= 1


class Wire:
    """A `Link` to an agent of the same process, by way of JSON; a test takes it away and gives it back."""

    def __init__(self, remote: RemoteWorkers | None) -> None:
        self.remote = remote  # None: no agent listens
        self.lost: set[str] = (
            set()
        )  # "reports": they get no answer; "answers": the agent takes them all the same
        self.joins = 0
        self._scopes: set[trio.CancelScope] = set()

    def cut(self) -> None:
        """Breaks what is connected, for both ends."""
        for scope in list(self._scopes):
            scope.cancel()

    @asynccontextmanager
    async def join(self, hello: Hello) -> AsyncIterator[AsyncIterator[ToWorker]]:
        if self.remote is None:
            raise LinkBroken("no agent listens")
        self.joins += 1
        send, receive = trio.open_memory_channel[ToWorker](0)
        async with trio.open_nursery() as nursery:  # as the agent's own task for the request
            nursery.start_soon(self._served, self.remote, hello, send)
            async with aclosing(self._messages(receive)) as messages:
                yield messages
            nursery.cancel_scope.cancel()

    async def _messages(self, receive: trio.MemoryReceiveChannel[ToWorker]) -> AsyncGenerator[ToWorker, None]:
        decode = msgspec.json.Decoder(ToWorker).decode
        async for message in receive:
            yield decode(msgspec.json.encode(message))
        raise LinkBroken("cut")

    async def _served(
        self,
        remote: RemoteWorkers,
        hello: Hello,
        send: trio.MemorySendChannel[ToWorker],
    ) -> None:
        with send, trio.CancelScope() as scope:
            self._scopes.add(scope)
            async with remote.joined(msgspec.json.decode(msgspec.json.encode(hello), type=Hello)) as messages:
                async for message in messages:
                    await send.send(message)

    async def report(self, report: Report, *, timeout_s: float) -> None:
        if "reports" in self.lost or self.remote is None:
            await trio.sleep(timeout_s)
            raise LinkBroken("no answer")
        try:
            self.remote.report(msgspec.json.decode(msgspec.json.encode(report), type=Report))
        except ShardError as error:
            raise Refused(str(error), error.error_class.value) from error
        if "answers" in self.lost:
            raise LinkBroken("the answer was lost")
        await trio.lowlevel.checkpoint()


class Pair:
    """An agent's half and a worker's half."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.board = Board()
        self.remote = self.new_agent()
        self.wire = Wire(self.remote)
        self.hands = Hands()
        self.leave = Leave()
        self.settings = Settings("s1", "far", grace_s=30.0)

    def new_agent(self) -> RemoteWorkers:
        proof = sights.write_proof(self.directory)
        return RemoteWorkers(
            self.board, self.directory, self.directory, proof, version="1.2", heartbeat_s=HEARTBEAT_S
        )

    def worker(self) -> RemoteWorker:
        return RemoteWorker(self.settings, self.wire, self.hands, self.leave)


@asynccontextmanager
async def pair_at(directory: Path) -> AsyncIterator[tuple[Pair, trio.Nursery]]:
    """Both halves, joined; the worker ends with the block."""
    pair = Pair(directory)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.worker().run)
        await pair.board.ready()
        yield pair, nursery
        nursery.cancel_scope.cancel()
