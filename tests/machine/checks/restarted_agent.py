"""An agent that is killed in its unit is started anew by systemd, and has groups again and none of the old ones."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.machine.guest import PYTHON, begin, show, stop, until

MACHINES = ("run", "box")
UNIT = "restarted.service"
SAID = Path("/run/restarted")
GROUPS = Path("/sys/fs/cgroup")


def group() -> str:
    """The name of the group that the agent has made for its worker."""
    until(lambda: SAID.exists() and SAID.read_text())
    return SAID.read_text().rpartition("/")[2]


def check() -> None:
    command = (PYTHON, "-m", "tests.agent.groups.programs", "hold", str(SAID))
    begin(UNIT, *command, Delegate="memory", Restart="always", RestartSec="100ms")
    try:
        first = group()
        assert list(GROUPS.rglob(first))
        SAID.unlink()
        os.kill(int(show(UNIT, "MainPID")), signal.SIGKILL)
        second = group()
        print(first, second)
        assert list(GROUPS.rglob(second))
        assert not list(GROUPS.rglob(first))
    finally:
        stop(UNIT)
