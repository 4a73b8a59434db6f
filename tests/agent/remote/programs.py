"""An agent's application in the test's own loop with a scheduler that has a worker of its own, and programs of remote
workers as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from agent.dagstore.events import Hub
from agent.dagstore.leases import Leases
from agent.rpc.application import application
from agent.rpc.binds import TcpBind, UnixBind
from agent.rpc.http import serve
from agent.rpc.methods import Services
from agent.rpc.tokens import Tokens
from agent.scheduler.scheduler import Settings
from agent.workers.remote import sights
from agent.workers.remote.executor import RemoteExecutor
from agent.workers.remote.joining import RemoteWorkers
from tests.agent.machines import Working, working
from tests.agent.remote.joining import eventually
from tests.agent.stores import dagstore_at
from tests.fixtures import REPOSITORY

HEARTBEAT_S = 0.4
END_S = 30.0


@dataclass(frozen=True)
class Agent:
    """What a test looks at."""

    path: Path
    here: Working
    remote: RemoteWorkers
    tokens: Tokens
    port: int

    @property
    def socket(self) -> Path:
        return self.path / "s"

    def enable_local(self, enabled: bool) -> None:
        self.here.scheduler.set_enabled(self.here.local.id, enabled)

    async def joined(self) -> RemoteExecutor:
        """The one worker that has joined and may be given something."""
        await eventually(lambda: [one for one in self.remote.workers() if one.kinds])
        (executor,) = self.remote.workers()
        return executor

    def index(self, path: Path) -> dict[str, str]:
        """The parameters of a task."""
        building = self.path / "index" / "building"
        building.mkdir(parents=True, exist_ok=True)
        return {"path": str(path), "scratch": str(building / "x.idx"), "out": str(self.out)}

    @property
    def out(self) -> Path:
        return self.path / "index" / "x.idx"

    def leftovers(self) -> list[Path]:
        """Folders of attempts at remote workers."""
        return list((self.path / "index" / "building").glob("x.idx.*"))


@asynccontextmanager
async def agent_at(path: Path) -> AsyncIterator[Agent]:
    """Serves for the time of the block, on a socket and over TCP."""
    path.mkdir(exist_ok=True)
    hub, stop = Hub(buffer=1000), trio.Event()
    # What else goes on at this machine must not keep the workers, which see it, from being given anything.
    async with (
        working(limit=1, settings=Settings(pressure=0.0)) as here,
        dagstore_at(path) as dagstore,
        trio.open_nursery() as nursery,
    ):
        proof = sights.write_proof(path)
        remote = RemoteWorkers(here.scheduler, path, path, proof, version="1.2", heartbeat_s=HEARTBEAT_S)
        tokens = Tokens(path / "token-secret")
        services = Services(
            dagstore,
            Leases(dagstore),
            here.scheduler,
            path,
            "1.2",
            stop,
            time.monotonic(),
            tokens,
            remote=remote,
        )
        binds = [UnixBind(path / "s"), TcpBind("127.0.0.1", 0)]
        _, address = await nursery.start(partial(serve, grace_s=0.1), application(services, hub), binds, stop)
        assert isinstance(address, TcpBind)
        try:
            yield Agent(path, here, remote, tokens, address.port)
        finally:
            stop.set()


class Program:
    """`carfs worker run`, as a process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    def log(self) -> str:
        return self._log.read_text()

    def children(self) -> list[int]:
        """Its worker processes that live."""
        lists = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for children in lists for pid in children.read_text().split()]

    async def ended(self) -> int:
        """The exit code, once there is one."""
        await eventually(lambda: self.process.poll() is not None)
        assert self.process.returncode is not None
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def program(
    log: Path, where: object, *arguments: str, before: Sequence[str] = (), **environ: str
) -> Iterator[Program]:
    """A remote worker for the time of the block; `before` is a command that runs another one."""
    command = [
        sys.executable,
        "-m",
        "agent.cli.main",
        "worker",
        "--connect",
        str(where),
        "--name",
        "far",
        *arguments,
    ]
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [*before, *command],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environ},
            stdin=subprocess.DEVNULL,
            stderr=errors,
        )
    try:
        yield Program(process, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        try:
            process.wait(END_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
