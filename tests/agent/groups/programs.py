"""What runs as an agent in a group that a test made: `python -m tests.agent.groups.programs NAME`.

Each prints one line of JSON; the tests say what of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.workers.groups import Group, Groups, open_groups

MIB = 1 << 20
SLEEPER = "import sys; sys.stdin.read()"
LIAR = """
import sys
sys.stdin.readline()
taken = []
while True:
    taken.append(b"x" * (1 << 20))
    if len(taken) == int(sys.argv[1]):
        print("taken", flush=True)
        sys.stdin.readline()
"""


def start(group: Group, code: str, *arguments: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert group.take(process.pid), group.problem
    return process


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def liar(groups: Groups) -> None:
    """A process that takes more than it may beside one that does not."""
    honest, lying = groups.make("1"), groups.make("2")
    assert honest.limit(64 * MIB) and lying.limit(64 * MIB), (honest.problem, lying.problem)
    sibling, process = start(honest, SLEEPER), start(lying, LIAR, "1000000")
    process.communicate(b"\n")
    say(
        code=process.returncode,
        kills=[honest.oom_kills(), lying.oom_kills()],
        peak=lying.peak(),
        sibling=sibling.poll(),
        agent=standing(groups),
    )
    sibling.communicate()
    for group in (honest, lying):
        group.remove()


def standing(groups: Groups) -> str:
    """Where this process is, of where its workers' groups are."""
    with open("/proc/self/cgroup") as lines:  # noqa: PTH123  a line of /proc, for people
        path = next(
            line.split(":", 2)[2].strip() for line in lines if ":memory:" in line or line[:3] == "0::"
        )
    return path.strip("/").removeprefix(groups.level.strip("/")).strip("/")


def grow(groups: Groups) -> None:
    """A task of 40 MiB in 64, what is counted then, and less than it has refused."""
    group = groups.make("1")
    assert group.limit(64 * MIB)
    process = start(group, LIAR, "40")
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    process.stdout.readline()
    used, peak = group.used(), group.peak()
    lowered, problem = group.limit(20 * MIB), group.problem
    raised = group.limit(128 * MIB) and group.limit(0) and group.limit(64 * MIB)
    group.remove()
    say(used=used, peak=peak, lowered=lowered, problem=problem, raised=raised, code=process.wait())


def hold(groups: Groups) -> None:
    """An agent with one worker, until its stdin ends or it is killed; with a path for what it says, for good."""
    group = groups.make("1")
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(1000)"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    group.take(process.pid)
    group.limit(64 * MIB)
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(group.level or f"({group.problem})")
        process.wait()
    say(level=group.level, worker=process.pid)
    sys.stdin.read()
    group.remove()
    process.kill()
    process.wait()


def reason(groups: Groups) -> None:
    """Only whether there can be groups."""
    say(reason=groups.reason, possible=groups.possible, agent=standing(groups))


def costs(groups: Groups) -> None:
    """Microseconds of each call, of the fastest of many."""
    best: dict[str, float] = {}

    def timed(name: str, call: Callable[..., Any], *arguments: object) -> Any:
        begun = time.perf_counter()
        given = call(*arguments)
        best[name] = min(best.get(name, 1e9), round((time.perf_counter() - begun) * 1e6, 1))
        return given

    for number in range(200):
        group = timed("make", groups.make, str(number))
        process = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        timed("take", group.take, process.pid)
        timed("limit", group.limit, 64 * MIB)
        timed("used", group.used)
        timed("peak", group.peak)
        timed("oom_kills", group.oom_kills)
        process.communicate()
        timed("remove", group.remove)
    say(**best)


def main() -> None:
    """Opens groups as the agent does, and runs the program that the first argument names."""
    if sys.argv[1] == "reason" and len(sys.argv) > 2:
        os.setuid(int(sys.argv[2]))
    groups = open_groups()
    program: Callable[[Groups], None] = globals()[sys.argv[1]]
    program(groups)
    groups.close()


if __name__ == "__main__":
    main()
