"""The agent as a process, for tests of what only a process can show: signals, kills, memory, sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent.client import Client, Json
from tests.fixtures import REPOSITORY

DEADLINE_S = 30.0
POLL_S = 0.005


class AgentProcess:
    """`carfs agent` with its state at `path`, run by the command `prefix` if there is one; a context manager that waits
    until it is ready and ends it."""

    def __init__(
        self,
        path: Path,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.path = path
        self.client = Client(path / "agent.sock", timeout_s=DEADLINE_S)
        self._log_path = path.with_name(path.name + ".log")
        notify_path = path.with_name(path.name + ".notify")
        notify_path.unlink(missing_ok=True)
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind(str(notify_path))
        self._notified.settimeout(DEADLINE_S)
        own = {"CARFS_PATH": str(path), "NOTIFY_SOCKET": str(notify_path), "PYTHONPATH": str(REPOSITORY)}
        with self._log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "agent.cli.main", "agent", *arguments],
                env={**os.environ, **own, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    def wait_ready(self) -> AgentProcess:
        assert self.notification() == "READY=1", self.log()
        return self

    def notification(self) -> str:
        """The next line for systemd."""
        return self._notified.recv(1000).decode()

    def log(self) -> str:
        return self._log_path.read_text()

    def __enter__(self) -> AgentProcess:
        try:
            return self.wait_ready()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(DEADLINE_S)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._notified.close()

    def kill(self) -> None:
        """As if the power went."""
        self.process.kill()
        self.process.wait()

    def workers(self) -> list[int]:
        """The pids of its children that live, whichever of its threads has started them."""
        lists = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for children in lists for pid in children.read_text().split()]

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")

    def states(self) -> dict[str, str]:
        shards = self.client.call("Filecoin.DagstoreListShards")
        return {one["Key"]: one["State"].removeprefix("ShardState") for one in shards}

    def register(self, key: str, path: Path, *, wait: bool = True) -> Json:
        return self.client.call("Carfs.RegisterShard", {"Key": key, "URL": str(path), "Wait": wait})

    def refs(self, key: str) -> int:
        refs: int = self.client.call("Carfs.ShardInfo", [key])["Refs"]
        return refs


class Shell:
    """Runs `carfs` against an agent, in a directory."""

    def __init__(self, path: Path, directory: Path, **environ: str) -> None:
        self._environ = {**os.environ, "CARFS_PATH": str(path), "PYTHONPATH": str(REPOSITORY), **environ}
        self._directory = directory

    def __call__(self, *arguments: str | bytes, stdin: str | None = None) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        done = subprocess.run(
            [sys.executable, "-m", "agent.cli.main", *arguments],
            cwd=self._directory,
            env=self._environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout, done.stderr

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that goes on, with pipes."""
        return subprocess.Popen(
            [sys.executable, "-m", "agent.cli.main", *arguments],
            cwd=self._directory,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def until(condition: Callable[[], object]) -> None:
    """Polls another process's outside until it is as expected; an AssertionError after `DEADLINE_S`."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(POLL_S)
