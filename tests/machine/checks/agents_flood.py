"""More tasks at once than there is memory for are all done without a kill, also when the limit is halved meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

from tests.machine.agents import IS_V1, Agent, running, write_car
from tests.machine.guest import until

MACHINES = ("run", "box")
DEADLINE_S = 240  # each worker process that is begun takes seconds in an emulated machine
MANY_CPUS = "INDEX_MAX_PARALLELISM=0"  # so that memory alone says how many run at once


def check() -> None:
    swap = {} if IS_V1 else {"MemorySwapMax": 0}
    with running("flood", Delegate="memory", MemoryMax="360M", Environment=MANY_CPUS, **swap) as agent:
        gently = () if IS_V1 else ("MemoryHigh=180M",)
        flood(agent, 12, *gently, "MemoryMax=180M")


def flood(agent: Agent, tasks: int, *halved: str) -> None:
    """Begins so many at once, and sets these one after the other when some have been done."""
    begun, most, wanted = time.monotonic(), 0, list(halved)
    before, used = agent.indexed(), 0
    for number in range(tasks):
        agent.register(write_car(Path(f"/run/{tasks}-{number}.car"), 1000))

    def done() -> bool:
        nonlocal most, used
        most = max(most, agent.tasks()["Running"])
        count = agent.indexed() - before
        if wanted and count >= tasks // 2:
            used = used or agent.resources()["Memory"]["Used"]
            agent.set(wanted.pop(0))
        return count == tasks

    until(done, DEADLINE_S)
    print(
        f"{halved}: {time.monotonic() - begun:.1f} s, {most} at once, {used >> 20} MiB used when it was halved"
    )
    assert not wanted
    assert most > 1
    assert agent.kills() == 0
    assert "killed" not in agent.journal()
