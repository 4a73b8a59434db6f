"""Under a user's own manager a delegated unit is divided; another one, and what a session holds, is left alone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.machine.guest import CHECKOUT, PYTHON, until

MACHINES = ("run",)
USER, UID = "somebody", "1500"
CGROUP = f"user.slice/user-{UID}.slice/user@{UID}.service/app.slice"


def check() -> None:
    subprocess.run(["useradd", "--create-home", "--uid", UID, USER], check=True)
    subprocess.run(["loginctl", "enable-linger", USER], check=True)
    until(Path(f"/run/user/{UID}/bus").exists)

    told = said("liar", "--pipe", "--wait", "--property=Delegate=memory")
    assert (told["code"], told["kills"], told["agent"]) == (-9, [0, 1], "agent")

    told = said("reason", "--pipe", "--wait")
    assert told["reason"].startswith(f"{CGROUP}/run-")
    assert told["reason"].endswith(".service is not delegated; put Delegate=memory in its unit")

    told = said("reason", "--scope")
    assert told["reason"].startswith(f"{CGROUP}/run-")
    assert "is a session's or a command's" in told["reason"]
    assert told["agent"].endswith(".scope")


def said(program: str, *options: str) -> dict[str, Any]:
    """What a program of the user's says in a unit of the user's."""
    run = ["systemd-run", "--user", "--quiet", *options]
    command = ["env", f"PYTHONPATH={CHECKOUT}", PYTHON, "-m", "tests.agent.groups.programs", program]
    become = ["runuser", "-u", USER, "--", "env", f"XDG_RUNTIME_DIR=/run/user/{UID}"]
    done = subprocess.run([*become, *run, *command], capture_output=True, text=True, check=False, cwd="/")
    print(done)
    assert done.returncode == 0
    found: dict[str, Any] = json.loads(done.stdout)
    return found
