"""Heavy tasks all at once in a cgroup that has memory for few of them: how many are killed, and how fast the rest is.

Columns: what the agent does; the best of several numbers of tasks at once, chosen by hand and told no limits; and
the same scheduler with the limits that /proc/meminfo tells of, as workers took them before Lotus asked cgroups. The
kills are those that the kernel's log tells of in that cgroup, of whatever process. The number by hand is sought first;
then it and the agent take turns, and the best of each counts, since others on the machine only ever add. What they add
less to is the time of the CPUs, which is there to compare too.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.bench.data import Data
from tests.bench.table import Table

LIMIT_BYTES = 512 << 20
TASKS = 200
BY_HAND = (1, 2, 3, 4, 6, 8)
TURNS = 3
PATIENCE_S = 600
V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Result:
    """How a flood ended; `seconds` is None where it was killed itself."""

    seconds: float | None
    done: int
    kills: int
    most_at_once: int = 0
    groups: str = ""
    cpu_seconds: float = 0.0

    @property
    def text(self) -> str:
        if self.seconds is None:
            return f"{self.done} done, {self.kills} killed, killed as a whole"
        speed = f"{self.done / self.seconds:.1f} tasks/s, {self.cpu_seconds:.0f} s of CPU"
        return f"{self.done} done, {self.kills} killed, {speed}, {self.most_at_once} at once"

    @property
    def rank(self) -> tuple[int, float]:
        """The best has the lowest: nothing killed, soonest done."""
        return self.kills, self.seconds or float("inf")


def measure(data: Data, *, quick: bool) -> None:
    """Prints the table, or why there is none."""
    if why := why_not():
        print(f"\nNo figures of a flood: {why}")
        return
    car = data.blocks(data.sizes.few_blocks if quick else 262_144, version=1)
    tasks = 20 if quick else TASKS
    by_hand = BY_HAND[:2] if quick else BY_HAND
    table = Table(
        f"{tasks} tasks at once (index, commp) on a CAR of {car.stat().st_size >> 20} MiB in a cgroup of 512 MiB",
        ("carfs", "by hand, the best", "limits of /proc/meminfo", "carfs / by hand"),
    )
    table.begin()
    hands = {}
    for count in by_hand:
        hands[count] = _flood(data, car, tasks, "meminfo", at_once=count)
        print(f"by hand: {hands[count].text}", file=sys.stderr)
    best = min(hands, key=lambda count: hands[count].rank)
    for name, halve_after in (("512 MiB throughout", 0), ("halved in the middle", tasks // 3)):
        ours, hand = [], []
        for _ in range(1 if quick else TURNS):
            ours.append(_flood(data, car, tasks, "cgroup", halve_after=halve_after))
            hand.append(_flood(data, car, tasks, "meminfo", at_once=best, halve_after=halve_after))
        naive = _flood(data, car, tasks, "meminfo", halve_after=halve_after)
        kills = sum(one.kills for one in ours)
        us, them = min(ours, key=lambda one: one.rank), min(hand, key=lambda one: one.rank)
        table.row(name, f"{us.text} ({kills} killed in all turns)", them.text, naive.text, _ratio(us, them))
    print("\nby hand: " + "; ".join(one.text for one in hands.values()))
    print(f"groups of processes: {us.groups}")


def _ratio(ours: Result, other: Result) -> str | None:
    return f"{other.seconds / ours.seconds:.2f}" if ours.seconds and other.seconds else None


def why_not() -> str:
    """What this machine lacks; "" if nothing."""
    if os.geteuid() != 0:
        return "only root can make a cgroup"
    controllers = V2 / "cgroup.controllers"
    on_v2 = controllers.exists() and "memory" in controllers.read_text().split()
    return "" if on_v2 or (V1 / "cgroup.procs").exists() else "no cgroup has the memory controller"


def _flood(
    data: Data, car: Path, tasks: int, limits: str, *, at_once: int = 0, halve_after: int = 0
) -> Result:
    command = [
        sys.executable, "-m", "tests.bench.flood_process", str(data.scratch("flood")), str(car), str(tasks),
        "--limits", limits, "--at-once", str(at_once),
    ]  # fmt: skip
    with _group(LIMIT_BYTES) as (enter, set_limit):
        process = subprocess.Popen(
            ["sh", "-c", 'echo $$ > "$0" && exec "$@"', enter, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        done, found = 0, None
        for line in process.stdout:
            if line.startswith("{"):
                found = json.loads(line)
            else:
                done = int(line)
                if halve_after and done >= halve_after and set_limit(LIMIT_BYTES // 2):
                    halve_after = 0
        process.wait(PATIENCE_S)
        kills = _kills(Path(enter).parent.name)
    if found is None:
        return Result(None, done, kills)
    return Result(
        found["seconds"], found["done"], kills, found["most_at_once"], found["groups"], found["cpu_seconds"]
    )


def _kills(group: str) -> int:
    """How many processes the kernel has killed for want of memory in a group and those below it."""
    log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    return sum("oom-kill:" in line and f"task_memcg=/{group}" in line for line in log.splitlines())


@contextmanager
def _group(limit: int) -> Iterator[tuple[str, Callable[[int], bool]]]:
    """A cgroup of so many bytes, without swap: the file by which a process enters it, and what sets another limit
    (False where the kernel says that it is not possible now)."""
    on_v1 = (V1 / "cgroup.procs").exists()
    folder = (V1 if on_v1 else V2) / f"carfs-flood-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes") if on_v1 else ("memory.max",)

    def set_limit(bytes_: int) -> bool:
        try:
            for name in names:
                if (folder / name).exists():
                    (folder / name).write_text(str(bytes_))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        return True

    try:
        set_limit(limit)
        if not on_v1:
            (folder / "memory.swap.max").write_text("0")
        yield str(folder / "cgroup.procs"), set_limit
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Ends what is left in a group and those in it (of a flood that was killed), and removes them."""
    deadline = time.monotonic() + 60
    while folder.exists() and time.monotonic() < deadline:
        for one in (*sorted(folder.rglob("*/"), reverse=True), folder):
            with suppress(OSError):
                for pid in (one / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
            with suppress(OSError):
                one.rmdir()
        time.sleep(0.05)
