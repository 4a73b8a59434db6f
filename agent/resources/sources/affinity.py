"""The CPUs that the process may run on: taskset(1), sched_setaffinity(2), and any cpuset, seen or not."""

from __future__ import annotations

from collections.abc import Iterator

from agent.resources.context import Context
from agent.resources.cpu_lists import count
from agent.resources.facts import Fact, Resource

SOURCE = "affinity"
_NAME = "Cpus_allowed_list"


def limits(context: Context) -> Iterator[Fact]:
    file = f"{context.process}/status"
    status = context.text(SOURCE, file)
    if status is None:
        return
    allowed = next((line for line in status.split("\n") if line.startswith(_NAME)), "")
    cpus = count(allowed.partition(":")[2])
    if cpus is None:
        context.problem(SOURCE, file, f"there is no {_NAME}")
        return
    yield Fact(Resource.CPUS, SOURCE, "process", _NAME, file, cpus * 1000)
