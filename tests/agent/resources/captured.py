"""Captured machines: what `capturing` wrote, and machines made by hand, as `Files`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from agent.resources import reading
from agent.resources.facts import Fact, Resource, Snapshot
from agent.resources.settings import ResourcesConfig

FOLDER = Path(__file__).parent / "captures"
MIB = 1 << 20
GIB = 1 << 30
_HEADING = re.compile(r"^### (\S+)(?: !(\d+))?\n", re.MULTILINE)


class GivenFiles:
    """Files by their paths; a number in place of a text is the errno of a file that cannot be read."""

    def __init__(self, found: Mapping[str, str | int]) -> None:
        self.found = dict(found)

    def read(self, path: str) -> str:
        found = self.found.get(path, 2)
        if isinstance(found, int):
            raise OSError(found, os.strerror(found), path)  # of the class that the number has
        return found

    def exists(self, path: str) -> bool:
        if path in self.found:
            return self.found[path] != 2
        return any(name.startswith(f"{path}/") for name, found in self.found.items() if found != 2)

    def folders(self, path: str) -> list[str]:
        start = path.rstrip("/") + "/"
        below = [name[len(start) :] for name in self.found if name.startswith(start)]
        found = {name.partition("/")[0] for name in below if "/" in name}
        if not found:
            raise FileNotFoundError(2, os.strerror(2), path)
        return sorted(found)

    def but(self, changes: Mapping[str, str | int]) -> GivenFiles:
        """The same machine with some files as given."""
        return GivenFiles({**self.found, **changes})

    def snapshot(self, settings: ResourcesConfig | None = None) -> Snapshot:
        return reading.read(self, settings or ResourcesConfig())


def captured(name: str) -> GivenFiles:
    """The machine of a file of `captures/`."""
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8", errors="surrogateescape")
    _, *parts = _HEADING.split(text)
    return GivenFiles(
        {
            path: int(number) if number else content
            for path, number, content in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        }
    )


def what(name: str) -> str:
    """What a capture is of: its first line."""
    with (FOLDER / f"{name}.txt").open(encoding="utf-8") as file:
        return file.readline().removeprefix("# ").strip()


NAMES = sorted(path.stem for path in FOLDER.glob("*.txt"))

CONTAINER_MOUNTS = """\
700 600 0:60 / / rw,relatime - overlay overlay rw
701 700 0:61 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro
702 701 0:27 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate
"""
"""Mountinfo of a container on v2: no optional fields, and a source that is named `cgroup`."""


def host(memory: int = 8 * GIB, available: int = 6 * GIB, **more: int) -> dict[str, str | int]:
    """The files of a machine without cgroups; sizes in bytes, and so are further lines of /proc/meminfo."""
    lines = {"MemTotal": memory, "MemAvailable": available, "SwapTotal": GIB, "SwapFree": GIB, "Hugetlb": 0}
    unlimited = "unlimited            unlimited            bytes     \n"
    return {
        "/proc/meminfo": "".join(
            f"{name}: {size >> 10:>15} kB\n" for name, size in {**lines, **more}.items()
        ),
        "/sys/devices/system/cpu/online": "0-3\n",
        "/proc/loadavg": "0.10 0.20 0.30 1/200 4242\n",
        "/proc/sys/kernel/pid_max": "4194304\n",
        "/proc/sys/kernel/threads-max": "60000\n",
        "/proc/sys/vm/overcommit_memory": "0\n",
        "/proc/pressure/memory": "some avg10=1.50 avg60=0.00 avg300=0.00 total=1\n"
        "full avg10=0.50 avg60=0.00 avg300=0.00 total=1\n",
        "/proc/self/cgroup": "",
        "/proc/self/mountinfo": "1 0 0:1 / / rw - ext4 /dev/vda rw\n",
        "/proc/self/status": "Uid:\t1000\t1000\t1000\t1000\nRssAnon:\t 40960 kB\nRssShmem:\t 1024 kB\n"
        "CapEff:\t0000000000000000\nCpus_allowed_list:\t0-3\n",
        "/proc/self/limits": f"Max data size             {unlimited}Max address space         {unlimited}"
        "Max processes             unlimited            unlimited            processes \n",
    }


def v2_group(folder: str, **files: str | int) -> dict[str, str | int]:
    """The files of a group below /sys/fs/cgroup; `memory_max="300"` is its memory.max."""
    usual: dict[str, str | int] = {
        "cgroup.type": "domain", "cgroup.controllers": "cpuset cpu memory pids",
        "memory.max": "max", "memory.high": "max", "memory.current": "0", "memory.stat": "file 0\n",
        "memory.swap.max": "max", "memory.swap.high": "max", "memory.swap.current": "0",
        "cpu.max": "max 100000", "pids.max": "max", "pids.current": "1",
    }  # fmt: skip
    given = {name.replace("_", "."): text for name, text in files.items()}
    return {f"/sys/fs/cgroup{folder}/{name}": text for name, text in {**usual, **given}.items()}


def v2_machine(path: str, *groups: dict[str, str | int], **more: int) -> GivenFiles:
    """A machine whose cgroup v2 is mounted as in a container, and the process is in the group `path`."""
    found = host(**more) | {
        "/proc/self/cgroup": f"0::{path}\n",
        "/proc/self/mountinfo": CONTAINER_MOUNTS,
    }
    for group in groups:
        found |= group
    return GivenFiles(found)


def said(snapshot: Snapshot, name: str, level: str | None = None) -> list[tuple[int | None, int | None]]:
    """Limit and used of all facts of that name, and of one level."""
    return [
        (fact.limit, fact.used)
        for fact in snapshot.facts
        if fact.name == name and (level is None or fact.level == level)
    ]


def of(snapshot: Snapshot, resource: Resource) -> list[Fact]:
    return [fact for fact in snapshot.facts if fact.resource is resource]
