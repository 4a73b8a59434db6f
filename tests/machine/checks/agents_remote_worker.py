"""An agent whose unit is not delegated says so; a worker in another unit joins it, with limits of its own.

The worker is in a cgroup namespace besides, in which its own group is `/` and the mounts still show all others.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.machine.agents import CARFS, HARD, IS_V1, MIB, Agent, running, write_car
from tests.machine.guest import begin, stop, until

MACHINES = ("run", "box")
FAR = "far.service"


def check() -> None:
    # Nothing fits into what the configuration leaves: whatever is done is done by the other one.
    with running("near", MemoryMax="300M", Environment="CARFS_RESOURCES_MEMORY=1MiB") as agent:
        told(agent)
        join = (CARFS, "worker", "run", "--connect", str(agent.home), "--name", "far")
        begin(FAR, "/usr/bin/unshare", "--cgroup", *join, Delegate="memory pids", MemoryMax="250M")
        try:
            joins(agent)
        finally:
            stop(FAR)


def told(agent: Agent) -> None:
    found = agent.resources()
    if IS_V1:  # root may make groups wherever it likes
        assert found["Groups"] == "each worker process has a memory limit of its own"
        return
    why = f"{agent.level} is not delegated; put Delegate=memory in its unit"
    assert found["Groups"] == f"worker processes have no limits of their own: {why}"


def far(agent: Agent) -> dict[str, Any]:
    return next((one for one in agent.tasks()["Workers"] if one["Name"] == "far"), {})


def joins(agent: Agent) -> None:
    until(lambda: far(agent))
    print(far(agent))
    by = f"../../system.slice/{FAR} {HARD}"
    assert (far(agent)["MemoryBytes"], far(agent)["MemoryBy"]) == (250 * MIB, by)
    subprocess.run(["systemctl", "set-property", "--runtime", FAR, "MemoryMax=200M"], check=True)
    until(lambda: far(agent)["MemoryBytes"] == 200 * MIB)
    agent.register(write_car(Path("/run/far.car"), 1000), wait=True)
    assert agent.state("far") == "ShardStateAvailable"
