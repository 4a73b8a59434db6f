"""One worker process and the pipes to it, as the agent has them."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import trio

import agent
from agent.dagstore.failures import ErrorClass, ShardError
from agent.scheduler.requirement import IoClass
from agent.workers import messages
from agent.workers.executor import Done, Needs
from agent.workers.failures import WorkerDied, WorkerFailed
from agent.workers.groups import Group
from agent.workers.peaks import own_bytes

logger = logging.getLogger(__name__)

_PACKAGES = str(Path(agent.__file__).parent.parent)  # where the worker finds `agent` and `carlib`
_CHUNK_BYTES = 64 * 1024
_KILL_WAIT_S = 5.0  # a process that waits for a dead disk or network ends only when that answers


class Child:
    """One process, which does one task at a time; in a group of its own where there are any."""

    def __init__(self, process: trio.Process, group: Group) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._requests = process.stdin
        self._replies = process.stdout
        self._lines = messages.LineBuffer()
        self._group = group
        self._limit = 0
        self._most_used = 0  # that we have seen during this task
        self.pid = process.pid

    @classmethod
    async def start(cls, group: Group) -> Child:
        """Starts one; raises OSError. It is in its group before it has imported much."""
        search = os.pathsep.join(filter(None, [_PACKAGES, os.environ.get("PYTHONPATH", "")]))
        process = await trio.lowlevel.open_process(
            [sys.executable, "-P", "-m", "agent.workers.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": search},
        )
        group.take(process.pid)
        return cls(process, group)

    @property
    def level(self) -> str:
        """The group that it is in, as `Fact.level`; "": it has none of its own."""
        return self._group.level

    def limit(self, memory_bytes: int) -> bool:
        """What its next task may take (0: any amount), where that can be enforced. False: it holds more already, or
        has the limit of another task and cannot be given this one."""
        self._most_used, self._limit = 0, memory_bytes
        return self._group.limit(memory_bytes) or not self._group.level

    def used_bytes(self) -> int:
        """Memory that it has now."""
        used = self._group.used() or own_bytes(self.pid)
        self._most_used = max(self._most_used, used)
        return used

    async def call(
        self,
        kind: str,
        params: messages.Params,
        progress: Callable[[int, int], None] | None,
        needs: Needs | None,
        io_class: IoClass = IoClass.BEST_EFFORT,
    ) -> Done:
        """Has it do a task; raises WorkerFailed, or WorkerDied, after which it must be killed."""
        try:
            request = {"task": kind, "params": params, "io_class": io_class.value}
            await self._requests.send_all(messages.encode(request))
            while True:
                data = await self._replies.receive_some(_CHUNK_BYTES)
                if not data:
                    raise await self._death(kind)
                for message in map(messages.decode, self._lines.feed(data)):
                    if "result" in message:
                        return Done(message["result"], int(message["peak"]))
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
        what = f"worker process {self.pid} {how} in the middle of the task {kind!r}"
        outgrew = 0 < self._limit < self._most_used  # without a group, that is all one knows
        is_too_big = code == -signal.SIGKILL and (self._group.oom_kills() > 0 or outgrew)
        if is_too_big:
            what += f", which outgrew the {self._limit >> 20} MiB that were reserved for it"
        return WorkerDied(what, code, out_of_memory=is_too_big)

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
        self._group.remove()
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
