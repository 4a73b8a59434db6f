"""More tasks at once than there is memory for are all done without a kill, also when the limit is halved meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

from tests.machine.agents import IS_V1, Agent, running, write_car
from tests.machine.guest import until

MACHINES = ("run", "box")
TASKS = 12
MANY_CPUS = "INDEX_MAX_PARALLELISM=0"  # so that memory alone says how many run at once


def check() -> None:
    swap = {} if IS_V1 else {"MemorySwapMax": 0}
    car = write_car(Path("/run/flood.car"), 20_000)
    with running("flood", Delegate="memory", MemoryMax="300M", Environment=MANY_CPUS, **swap) as agent:
        flood(agent, car, "first")
        agent.set("MemoryMax=300M")
        if not IS_V1:
            flood(agent, car, "softly", "MemoryHigh=150M")
            agent.set("MemoryHigh=infinity", "MemoryMax=300M")
        flood(agent, car, "hard")


def flood(agent: Agent, car: Path, name: str, *first: str) -> None:
    begun, most = time.monotonic(), 0
    before = agent.indexed()
    for number in range(TASKS):
        copy = car.with_name(f"{name}{number}.car")
        copy.hardlink_to(car)
        agent.register(copy)
    halved = name == "first"
    while (done := agent.indexed() - before) < TASKS:
        most = max(most, agent.tasks()["Running"])
        if not halved and done >= TASKS // 3:
            halved = True
            print(f"halved with {agent.resources()['Memory']['Used'] >> 20} MiB used")
            for one in (*first, "MemoryMax=150M"):
                agent.set(one)
        assert time.monotonic() - begun < 100
        time.sleep(0.1)
    print(f"{name}: {time.monotonic() - begun:.1f} s, {most} at once, {agent.kills()} kills")
    assert agent.kills() == 0
    assert "killed" not in agent.journal()
