"""One flood in a process of its own, which `flood.py` puts into a cgroup: many tasks at once, half of them index a CAR
and half compute the piece commitment of it.

`flood_process FOLDER CAR TASKS --limits cgroup|meminfo [--at-once N]` prints the number of tasks that are done, a line
each time, and at last a JSON object. With `cgroup` it is what the agent does. With `meminfo` the limits are those that
/proc/meminfo tells of, as workers took them before Lotus asked cgroups.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import trio

from agent.resources import reading
from agent.resources.files import Files, MachineFiles
from agent.resources.monitor import open_monitor
from agent.resources.settings import ResourcesConfig
from agent.scheduler import overrides
from agent.scheduler.scheduler import Scheduler, Settings, open_scheduler
from agent.scheduler.table import KINDS
from agent.workers import WorkerFailed
from agent.workers.groups import open_groups
from agent.workers.local import open_local
from tests.agent.machines import Learned

MANY_CPUS = {"INDEX_MAX_PARALLELISM": "0", "COMMP_MAX_PARALLELISM": "0"}
"""So that memory alone limits how many tasks run at once, as on a machine with as many CPUs: on one with few, it would
never bind. All columns have it, and all of them the same number of CPUs to share."""


class OnlyMeminfo:
    """The files of a machine without cgroups."""

    def __init__(self, machine: Files) -> None:
        self._machine = machine

    def read(self, path: str) -> str:
        self._refuse(path)
        return self._machine.read(path)

    def exists(self, path: str) -> bool:
        return "cgroup" not in path and self._machine.exists(path)

    def folders(self, path: str) -> list[str]:
        self._refuse(path)
        return self._machine.folders(path)

    @staticmethod
    def _refuse(path: str) -> None:
        if "cgroup" in path or path.endswith("mountinfo"):
            raise FileNotFoundError(path)


class Flood:
    """What becomes of the tasks."""

    def __init__(self, scheduler: Scheduler, folder: Path, car: Path, at_once: int) -> None:
        self._scheduler = scheduler
        self._folder = folder
        self._car = car
        self._room = trio.CapacityLimiter(at_once or 1_000_000)
        self.done = 0
        self.failed = 0
        self.most_at_once = 0

    async def task(self, number: int) -> None:
        """Runs one task, to its end or its failure."""
        kind = "commp" if number % 2 else "index"
        params: dict[str, Any] = {"path": str(self._car)}  # Any: JSON
        out = self._folder / f"{number}.idx"
        if kind == "index":
            params |= {"scratch": str(self._folder / f"{number}.scratch"), "out": str(out)}
        async with self._room:
            try:
                await self._scheduler.run(
                    kind, params, subject=str(number), size_bytes=self._car.stat().st_size
                )
            except WorkerFailed:
                self.failed += 1
            else:
                self.done += 1
                print(self.done, flush=True)
        out.unlink(missing_ok=True)

    async def watch(self) -> None:
        """Counts how many run at once."""
        while True:
            running = sum(len(worker.running) for worker in self._scheduler.workers())
            self.most_at_once = max(self.most_at_once, running)
            await trio.sleep(0.05)


async def run(given: argparse.Namespace) -> dict[str, Any]:
    """The flood, from its first task to the end of its last."""
    files: Files = MachineFiles()
    groups = open_groups(setting="auto" if given.limits == "cgroup" else "off")
    if given.limits == "meminfo":
        files = OnlyMeminfo(files)
    read: Callable[[], Any] = partial(reading.read, files, ResourcesConfig())
    settings = Settings(overrides=overrides.from_environment(MANY_CPUS))
    with closing(groups):
        async with (
            open_monitor(read) as monitor,
            open_local(
                name="flood",
                kinds=frozenset(KINDS),
                snapshot=monitor.snapshot,
                disk_left=lambda: 1 << 40,
                groups=groups,
                idle_timeout_s=10,
            ) as local,
            open_scheduler(local, store=Learned(), refresh=monitor.fresh, settings=settings) as scheduler,
        ):
            monitor.subscribe(scheduler.poke)
            flood = Flood(scheduler, given.folder, given.car, given.at_once)
            async with trio.open_nursery() as watching:
                watching.start_soon(flood.watch)
                begun = time.perf_counter()
                async with trio.open_nursery() as nursery:
                    for number in range(given.tasks):
                        nursery.start_soon(flood.task, number)
                seconds = time.perf_counter() - begun
                watching.cancel_scope.cancel()
            return {
                "seconds": seconds,
                "done": flood.done,
                "failed": flood.failed,
                "most_at_once": flood.most_at_once,
                "groups": groups.reason or "each process has its own",
            }


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("car", type=Path)
    arguments.add_argument("tasks", type=int)
    arguments.add_argument("--limits", choices=("cgroup", "meminfo"), required=True)
    arguments.add_argument("--at-once", type=int, default=0)
    given = arguments.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    found = trio.run(run, given)
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps(found | {"cpu_seconds": sum(one.ru_utime + one.ru_stime for one in used)}), flush=True)


if __name__ == "__main__":
    main()
