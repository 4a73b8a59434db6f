"""A task that needs more than was said of it dies alone in its group and is tried again with more: it is learned."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.machine.agents import IS_V1, MIB, Agent, running, write_car
from tests.machine.guest import until

MACHINES = ("run", "box")
SAID = 24 * MIB
LIE = f"INDEX_MIN_MEMORY=8MiB INDEX_MAX_MEMORY={SAID} INDEX_BASE_MIN_MEMORY=0"
BLOCKS = 200_000 if IS_V1 else 60_000  # v2 is emulated, and much slower
BESIDE = Path("/run/beside")


def check() -> None:
    with running("liar", Delegate="memory pids", MemoryMax="300M", Environment=LIE) as agent:
        with BESIDE.open("wb") as file:
            file.truncate((64 if IS_V1 else 8) * MIB)
        found: list[object] = []
        thread = threading.Thread(
            target=lambda: found.append(agent.call("Filecoin.ClientCalcCommP", {"Inpath": str(BESIDE)}))
        )
        thread.start()
        until(lambda: agent.task(str(BESIDE)).get("State") == "active")
        before = agent.task(str(BESIDE))
        dies_alone(agent, before)
        thread.join()
        assert found


def dies_alone(agent: Agent, beside: dict[str, object]) -> None:
    pid = agent.pid()
    agent.register(write_car(Path("/run/liar.car"), BLOCKS), wait=True)
    print(agent.journal())
    print(agent.call("Carfs.Estimates"))
    assert agent.state("liar") == "ShardStateAvailable"
    assert agent.pid() == pid
    now = agent.task(str(BESIDE))
    assert not now or (now["Attempt"], now["Worker"]) == (beside["Attempt"], beside["Worker"])
    assert (
        "which outgrew the 24 MiB that were reserved for it; trying once more, with more" in agent.journal()
    )
    (learned,) = [one for one in agent.call("Carfs.Estimates") if one["Kind"] == "index"]
    assert learned["PeakBytes"] > SAID
    assert agent.agents_kills() == 0
    print("kills", agent.kills())
    if not IS_V1:  # there a removed group takes its counter with it
        assert agent.kills() in (1, 2)  # with memory.oom.group the kernel counts a process twice (6.1)
