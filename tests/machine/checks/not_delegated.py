"""In a unit without Delegate= there is a reason, and no process is anywhere but where systemd has put it."""

from __future__ import annotations

import json

from tests.machine.guest import PYTHON, unit

MACHINES = ("run",)


def check() -> None:
    program = (PYTHON, "-m", "tests.agent.groups.programs", "reason")
    for more in ({}, {"user": "nobody"}):
        done = unit(*program, MemoryMax="300M", **more)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        print(said)
        assert not said["possible"]
        assert said["reason"].startswith("system.slice/run-u")
        assert said["reason"].endswith(".service is not delegated; put Delegate=memory in its unit")
        assert said["agent"].endswith(".service"), "not in a leaf"
