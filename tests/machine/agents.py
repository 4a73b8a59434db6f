"""The real agent as a unit of a booted machine, for checks; as `tests.machine.guest`, it imports only what is there."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.client import Client
from carlib import varint
from carlib.cid import Cid
from carlib.header import V1Header
from tests.machine.guest import begin, show, until

MIB = 1 << 20
MEMORY = Path("/sys/fs/cgroup/memory")
IS_V1 = MEMORY.is_dir()
HARD = "memory.limit_in_bytes" if IS_V1 else "memory.max"
CARFS = "/usr/local/bin/carfs"
NOTICED_S = 2.0
SLOW_S = 100.0  # for a call, in an emulated machine
Json = Any  # what the agent answers


class Agent:
    """One that runs."""

    def __init__(self, name: str) -> None:
        self.unit = f"{name}.service"
        self.home = Path("/var/lib") / name
        self._client = Client(self.home / "agent.sock", timeout_s=SLOW_S)

    def call(self, method: str, params: Json = None) -> Json:
        return self._client.call(method, params)

    @property
    def level(self) -> str:
        """Its unit's group, as `--explain` has it."""
        return show(self.unit, "ControlGroup").strip("/")

    @property
    def folder(self) -> Path:
        """The same, of the memory controller."""
        return (MEMORY if IS_V1 else Path("/sys/fs/cgroup")) / self.level

    def resources(self) -> Json:
        return self.call("Carfs.Resources")

    def limit(self) -> tuple[int, str]:
        """Of memory, and what it is by."""
        memory = self.resources()["Memory"]
        return memory["Limit"], memory["LimitBy"]

    def set(self, *properties: str, unit: str = "") -> float:
        """`systemctl set-property` on the unit, or on a slice above it; the time when it had been done."""
        subprocess.run(["systemctl", "set-property", "--runtime", unit or self.unit, *properties], check=True)
        return time.monotonic()

    def notices(self, what: str, *properties: str, unit: str = "", limit: tuple[int, str]) -> None:
        """Sets properties, after which the limit must be this one soon."""
        done = self.set(*properties, unit=unit)
        until(lambda: self.limit() == limit)
        took = time.monotonic() - done
        print(f"{what} noticed after {took:.2f} s")
        assert took < NOTICED_S

    def tasks(self) -> Json:
        return self.call("Carfs.Tasks")

    def task(self, subject: str) -> Json:
        """The one that is about this, if it has not ended."""
        return next((one for one in self.tasks()["Tasks"] if one["Subject"] == subject), {})

    def register(self, car: Path, *, wait: bool = False) -> None:
        """Has a CAR indexed, under its name."""
        self.call("Carfs.RegisterShard", {"Key": car.stem, "URL": str(car), "Wait": wait})

    def state(self, key: str) -> str:
        shards = self.call("Filecoin.DagstoreListShards")
        return str(next((one["State"] for one in shards if one["Key"] == key), ""))

    def indexed(self) -> int:
        return sum(one["State"] == "ShardStateAvailable" for one in self.call("Filecoin.DagstoreListShards"))

    def kills(self) -> int:
        """How many processes the kernel has killed in the unit, workers' groups included."""
        if IS_V1:
            files = [folder / "memory.oom_control" for folder in (self.folder, *self.folder.glob("*/"))]
        else:
            files = [self.folder / "memory.events"]
        return sum(_field(file, "oom_kill") for file in files)

    def agents_kills(self) -> int:
        """How often it was the agent."""
        own = self.folder / ("memory.oom_control" if IS_V1 else "agent/memory.events")
        return _field(own, "oom_kill")

    def pid(self) -> str:
        return show(self.unit, "MainPID")

    def journal(self) -> str:
        command = ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--unit={self.unit}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _field(file: Path, name: str) -> int:
    try:
        fields = dict(line.split() for line in file.read_text().splitlines())
    except FileNotFoundError:
        return 0
    return int(fields.get(name, 0))


@contextmanager
def running(name: str, **properties: str | int) -> Iterator[Agent]:
    """The agent as a service of systemd's, which has said that it is ready; its log is printed where a check fails."""
    one = Agent(name)
    environment = f"CARFS_PATH={one.home} {properties.pop('Environment', '')}"
    given = {"Type": "notify", "StateDirectory": name, "Environment": environment, **properties}
    begun = time.monotonic()
    try:
        begin(one.unit, CARFS, "agent", **given)
        print(f"{one.unit} up in {time.monotonic() - begun:.1f} s")
        yield one
    except BaseException:
        print(one.journal())
        raise
    finally:
        subprocess.run(["systemctl", "stop", one.unit], check=False)
        subprocess.run(["systemctl", "reset-failed", one.unit], check=False, capture_output=True)
        shutil.rmtree(one.home, ignore_errors=True)


def write_car(path: Path, blocks: int) -> Path:
    """A CARv1 whose blocks are all the same."""
    data = b"twenty bytes of data"
    cid = Cid.of(data)
    section = varint.encode(len(cid.raw) + len(data)) + cid.raw + data
    path.write_bytes(V1Header((cid,)).encode() + section * blocks)
    return path
