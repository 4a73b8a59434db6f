"""`systemctl set-property` on the agent's unit leaves its worker in its group, delegated or (cgroup v1) not."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.machine.guest import PYTHON, begin, stop, until

MACHINES = ("run", "box")
GROUPS = Path("/sys/fs/cgroup")
V1 = GROUPS / "memory"


def check() -> None:
    held("delegated.service", "memory")
    if V1.is_dir():
        held("plain.service", "no")


def held(unit: str, delegated: str) -> None:
    said = Path("/run") / unit
    begin(unit, PYTHON, "-m", "tests.agent.groups.programs", "hold", str(said), Delegate=delegated)
    try:
        until(lambda: said.exists() and said.read_text())
        print(said.read_text())
        [folder] = GROUPS.rglob(said.read_text().rpartition("/")[2])
        worker = (folder / "cgroup.procs").read_text()
        assert worker.strip()
        subprocess.run(["systemctl", "set-property", "--runtime", unit, "MemoryMax=200M"], check=True)
        subprocess.run(["systemctl", "daemon-reload"], check=True)
        assert (folder / "cgroup.procs").read_text() == worker
    finally:
        stop(unit)
