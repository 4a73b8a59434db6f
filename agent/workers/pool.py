"""The agent's side of its worker processes: a bounded pool that starts them when needed and ends them for sure."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

import agent
from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.workers import messages

logger = logging.getLogger(__name__)

_PACKAGES = str(Path(agent.__file__).parent.parent)  # where the worker finds `agent` and `carlib`
_CHUNK_BYTES = 64 * 1024
_ATTEMPTS = 2  # of a task whose worker is killed, which is what the kernel does when memory runs out
_KILL_WAIT_S = 5.0  # a process that waits for a dead disk or network ends only when that answers


class Needs(Protocol):
    """Who gets what a task lacks of a transient: `agent.dagstore.transients.Transient`."""

    async def ensure(self, offset: int, length: int) -> None:
        """Returns when the bytes are there; raises ShardError."""

    async def renew(self, offset: int, length: int) -> None:
        """Likewise, but what is there is wrong."""

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        """These will be needed soon; never waits."""


class WorkerFailed(Exception):
    """The task said that it failed; `error_class` is its class."""

    def __init__(self, error_class: ErrorClass, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class


class WorkerDied(WorkerFailed):
    """The process ended, or wrote nonsense, before it gave a result; `returncode` is negative for a signal."""

    def __init__(self, what: str, returncode: int | None) -> None:
        self.was_killed = returncode == -signal.SIGKILL
        super().__init__(ErrorClass.BUSY if self.was_killed else ErrorClass.BUG, what)
        self.returncode = returncode


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A snapshot for status displays."""

    busy: int
    idle: int
    waiting: int
    limit: int
    pids: tuple[int, ...]


class WorkerPool:
    """Runs tasks in worker processes, `limit` at a time; get one from `open_pool`."""

    def __init__(self, nursery: trio.Nursery, limit: int, idle_timeout_s: float) -> None:
        self._nursery = nursery
        self._limiter = trio.CapacityLimiter(limit)
        self._idle_timeout_s = idle_timeout_s
        self._idle: list[tuple[_Worker, float]] = []  # with the time from which on it may go
        self._busy: set[_Worker] = set()
        self._reaping = False

    async def run(
        self,
        kind: str,
        params: messages.Params,
        progress: Callable[[int, int], None] | None = None,
        needs: Needs | None = None,
    ) -> messages.Params:
        """Runs one task and gives its result; waits for a free place first. A task whose worker is killed is begun
        anew, once. `needs`: of the transient that the task reads, if it reads one.

        Raises WorkerFailed, WorkerDied. If cancelled, or after WorkerDied, the process was killed when this returns.
        """
        async with self._limiter:
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    return await self._attempt(kind, params, progress, needs)
                except WorkerDied as error:
                    if not error.was_killed:
                        raise
                    if attempt == _ATTEMPTS:
                        hint = "perhaps for want of memory (the kernel's log would say so); try again later"
                        raise WorkerDied(f"{error}, {hint}", error.returncode) from error
                    logger.warning("%s; trying once more", error)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(
        self,
        kind: str,
        params: messages.Params,
        progress: Callable[[int, int], None] | None,
        needs: Needs | None,
    ) -> messages.Params:
        worker = await self._worker()
        self._busy.add(worker)
        try:
            result = await worker.call(kind, params, progress, needs)
        except WorkerDied:
            await worker.kill()
            raise
        except WorkerFailed:
            self._keep(worker)
            raise
        except BaseException:
            await worker.kill()
            raise
        finally:
            self._busy.discard(worker)
        self._keep(worker)
        return result

    async def _worker(self) -> _Worker:
        """An idle worker that lives, or a new one."""
        while self._idle:
            worker, _ = self._idle.pop()
            if worker.lives():
                return worker
            await worker.kill()
        try:
            return await _Worker.start()
        except OSError as error:
            message = f"cannot start a worker process: {error.strerror or error}"
            is_busy = class_of_os_error(error) is ErrorClass.BUSY  # any other class would be about the data
            raise WorkerFailed(ErrorClass.BUSY if is_busy else ErrorClass.BUG, message) from error

    def statistics(self) -> PoolStatistics:
        limiter = self._limiter.statistics()
        workers = [*self._busy, *(worker for worker, _ in self._idle)]
        return PoolStatistics(
            busy=len(self._busy),
            idle=len(self._idle),
            waiting=limiter.tasks_waiting,
            limit=int(limiter.total_tokens),
            pids=tuple(sorted(worker.pid for worker in workers)),
        )

    def _keep(self, worker: _Worker) -> None:
        self._idle.append((worker, trio.current_time() + self._idle_timeout_s))
        if not self._reaping:
            self._reaping = True
            self._nursery.start_soon(self._reap)

    async def _reap(self) -> None:
        """Ends workers that nobody has needed for a while; runs only while there are idle ones."""
        while self._idle:
            await trio.sleep_until(self._idle[0][1])
            while self._idle and self._idle[0][1] <= trio.current_time():
                await self._idle.pop(0)[0].kill()
        self._reaping = False

    async def close(self) -> None:
        """Ends the idle workers; the busy ones end with their cancelled callers."""
        while self._idle:
            await self._idle.pop()[0].kill()


@asynccontextmanager
async def open_pool(*, limit: int, idle_timeout_s: float = 10.0) -> AsyncIterator[WorkerPool]:
    """A pool for the time of the block; no process of it is left afterwards."""
    async with trio.open_nursery() as nursery:
        pool = WorkerPool(nursery, limit, idle_timeout_s)
        try:
            yield pool
        finally:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await pool.close()


class _Worker:
    """One process and the pipes to it."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._requests = process.stdin
        self._replies = process.stdout
        self._lines = messages.LineBuffer()
        self.pid = process.pid

    @classmethod
    async def start(cls) -> _Worker:
        search = os.pathsep.join(filter(None, [_PACKAGES, os.environ.get("PYTHONPATH", "")]))
        process = await trio.lowlevel.open_process(
            [sys.executable, "-P", "-m", "agent.workers.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": search},
        )
        return cls(process)

    async def call(
        self,
        kind: str,
        params: messages.Params,
        progress: Callable[[int, int], None] | None,
        needs: Needs | None,
    ) -> messages.Params:
        try:
            await self._requests.send_all(messages.encode({"task": kind, "params": params}))
            while True:
                data = await self._replies.receive_some(_CHUNK_BYTES)
                if not data:
                    raise await self._death(kind)
                for message in map(messages.decode, self._lines.feed(data)):
                    if "result" in message:
                        result: messages.Params = message["result"]
                        return result
                    if "error" in message:
                        error = message["error"]
                        raise WorkerFailed(ErrorClass(error["class"]), error["message"])
                    if "need" in message:
                        answer = await _answer(needs, *message["need"], again=message["again"])
                        await self._requests.send_all(messages.encode(answer))
                    elif "want" in message:
                        if needs is not None:
                            needs.hint([(offset, length) for offset, length in message["want"]])
                    elif progress is not None:
                        done, total = message["progress"]
                        progress(done, total)
        except trio.BrokenResourceError:
            raise await self._death(kind) from None
        except (ValueError, KeyError, TypeError) as error:
            raise WorkerDied(f"worker {self.pid} gave no sense for {kind}: {error!r}", None) from error

    async def _death(self, kind: str) -> WorkerDied:
        code = await self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        return WorkerDied(f"worker process {self.pid} {how} in the middle of the task {kind!r}", code)

    def lives(self) -> bool:
        return self._process.returncode is None

    async def kill(self) -> None:
        """Ends the process and waits for its end, which SIGKILL makes short; it runs no code of ours after that."""
        with trio.CancelScope(shield=True):
            self._process.kill()
            with trio.move_on_after(_KILL_WAIT_S) as waiting:
                await self._process.wait()
            if waiting.cancelled_caught:
                logger.warning(
                    "worker process %d was killed and hangs in the system, in a disk or network", self.pid
                )
            await self._requests.aclose()
            await self._replies.aclose()
        logger.debug("worker %d ended", self.pid)


async def _answer(needs: Needs | None, offset: int, length: int, *, again: bool) -> messages.Params:
    """What a worker that needs these bytes is told, once they are there or cannot be had."""
    try:
        if needs is None:
            raise ShardError(ErrorClass.BUG, "this task has no transient to read")
        await (needs.renew if again else needs.ensure)(offset, length)
    except ShardError as error:
        return {"lack": {"class": error.error_class.value, "message": str(error)}}
    except Exception as error:
        logger.exception("getting bytes for a worker failed")
        return {"lack": {"class": ErrorClass.BUG.value, "message": f"{type(error).__name__}: {error}"}}
    return {"have": True}
