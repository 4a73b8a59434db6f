"""`systemctl stop`, which sends SIGTERM to the agent and its workers at once, leaves no shard in error."""

from __future__ import annotations

import subprocess
from pathlib import Path

from agent.client import AgentUnreachable
from tests.machine.agents import Agent, running, write_car
from tests.machine.guest import until

MACHINES = ("box",)


def check() -> None:
    with running("stopped", Delegate="memory") as agent:
        agent.register(write_car(Path("/run/big.car"), 1_000_000))
        until(lambda: agent.task("big").get("Done"))  # its process is past its own start
        subprocess.run(["systemctl", "kill", "--signal=SIGTERM", agent.unit], check=True)
        until(lambda: is_gone(agent))
        print(agent.journal())
        assert "ERRORED" not in agent.journal()
        assert "killed" not in agent.journal()


def is_gone(agent: Agent) -> bool:
    try:
        agent.tasks()
    except AgentUnreachable:
        return True
    return False
