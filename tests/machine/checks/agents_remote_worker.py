"""An agent whose unit is not delegated says so; a worker in another unit joins it, with limits of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.machine.agents import HARD, IS_V1, MIB, Agent, running, write_car
from tests.machine.guest import begin, stop, until

MACHINES = ("run", "box")
FAR = "far.service"


def check() -> None:
    # Nothing fits into what the configuration leaves: whatever is done is done by the other one.
    with running("near", MemoryMax="300M", Environment="CARFS_RESOURCES_MEMORY=1MiB") as agent:
        groups = agent.resources()["Groups"]
        print(groups)
        if IS_V1:  # root may make groups wherever it likes
            assert groups == "each worker process has a memory limit of its own"
        else:
            why = f"{agent.level} is not delegated; put Delegate=memory in its unit"
            assert groups == f"worker processes have no limits of their own: {why}"
        command = ("/usr/local/bin/carfs", "worker", "run", "--connect", str(agent.home), "--name", "far")
        begin(FAR, *command, Delegate="memory pids", MemoryMax="250M")
        try:
            joins(agent)
        finally:
            stop(FAR)


def far(agent: Agent) -> dict[str, Any]:
    return next((one for one in agent.tasks()["Workers"] if one["Name"] == "far"), {})


def joins(agent: Agent) -> None:
    until(lambda: far(agent))
    print(far(agent))
    assert (far(agent)["MemoryBytes"], far(agent)["MemoryBy"]) == (250 * MIB, f"system.slice/{FAR} {HARD}")
    subprocess.run(["systemctl", "set-property", "--runtime", FAR, "MemoryMax=200M"], check=True)
    until(lambda: far(agent)["MemoryBytes"] == 200 * MIB)
    agent.register(write_car(Path("/run/far.car"), 1000), wait=True)
    assert agent.state("far") == "ShardStateAvailable"
