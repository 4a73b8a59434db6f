"""The agent in a unit knows the limits of it and of the slice above, and at once when they are set anew.

What waits says under which level there is no room, and begins when the limit of that is raised.
"""

from __future__ import annotations

import time
from pathlib import Path

from tests.machine.agents import HARD, IS_V1, MIB, NOTICED_S, Agent, running, write_car
from tests.machine.guest import until

MACHINES = ("run", "box")
SLICE = "carfstest.slice"


def check() -> None:
    # With a quota: on v1 systemd moves no process of a delegated unit into a group of the cpu controller later.
    with running(
        "limited", Slice=SLICE, Delegate="memory pids", MemoryMax="400M", CPUQuota="170%", TasksMax=77
    ) as agent:
        told(agent)
        set_anew(agent)
        waits_for_room(agent)


def told(agent: Agent) -> None:
    by = f"{SLICE}/{agent.unit}"
    found = agent.resources()
    print("\n".join(found["Explanation"]))
    assert (found["Memory"]["Limit"], found["Memory"]["LimitBy"]) == (400 * MIB, f"{by} {HARD}")
    assert found["Memory"]["HeadroomBy"] == f"{by} {HARD}"
    assert (found["Pids"]["Limit"], found["Pids"]["LimitBy"]) == (77, f"{by} pids.max")
    assert found["Problems"] == []
    assert found["Groups"] == "each worker process has a memory limit of its own"


def set_anew(agent: Agent) -> None:
    own, above = f"{SLICE}/{agent.unit} {HARD}", f"{SLICE} {HARD}"
    agent.notices("a lower MemoryMax", "MemoryMax=300M", limit=(300 * MIB, own))
    agent.notices("one of the slice", "MemoryMax=250M", unit=SLICE, limit=(250 * MIB, above))
    agent.notices("none of the unit", "MemoryMax=infinity", limit=(250 * MIB, above))
    if not IS_V1:
        soft = f"{SLICE}/{agent.unit} memory.high"
        agent.notices("MemoryHigh", "MemoryHigh=220M", limit=(220 * MIB, soft))
        agent.set("MemoryHigh=infinity")
        agent.set("MemorySwapMax=0")
        until(lambda: agent.resources()["Swap"]["Limit"] == 0)
    agent.notices(
        "none of the slice", "MemoryMax=infinity", "MemoryMax=infinity", unit=SLICE, limit=machine()
    )
    agent.set("CPUQuota=150%", "TasksMax=88")
    quota = f"{SLICE}/{agent.unit} {'cpu.cfs_quota_us' if IS_V1 else 'cpu.max'}"
    until(lambda: bound(agent, "MilliCpus") == (1500, quota))
    until(lambda: bound(agent, "Pids") == (88, f"{SLICE}/{agent.unit} pids.max"))


def bound(agent: Agent, resource: str) -> tuple[int, str]:
    found = agent.resources()[resource]
    return found["Limit"], found["LimitBy"]


def machine() -> tuple[int, str]:
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    huge = int(lines["Hugetlb"].split()[0])
    return (int(lines["MemTotal"].split()[0]) - huge) << 10, "host MemTotal"


def waits_for_room(agent: Agent) -> None:
    by = f"{SLICE}/{agent.unit} {HARD}"
    agent.notices("little", "MemoryMax=110M", limit=(110 * MIB, by))
    agent.register(write_car(Path("/run/waits.car"), 1000))
    until(lambda: agent.task("waits").get("WaitsFor"))
    reason = agent.task("waits")["WaitsFor"]
    print(reason)
    assert reason.startswith("needs ") and f"under {by}" in reason
    raised = agent.set("MemoryMax=300M")
    until(lambda: agent.task("waits").get("State") != "waiting")
    took = time.monotonic() - raised
    print(f"the task began {took:.2f} s after the limit was raised")
    assert took < NOTICED_S
    until(lambda: agent.state("waits") == "ShardStateAvailable")
