"""In a unit with Delegate= each worker has a group of its own, and one that lies about its memory dies alone.

Whoever the unit runs as on cgroup v2; on v1 systemd delegates to root alone, and another user is told why not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.machine.guest import PYTHON, unit

MACHINES = ("run", "box")
MIB = 1 << 20
IS_V1 = Path("/sys/fs/cgroup/memory").is_dir()


def check() -> None:
    assert_alone(said("liar", ""))
    if not IS_V1:
        assert_alone(said("liar", "nobody"))
        return
    told = said("reason", "nobody")
    assert "Permission denied; on cgroup v1 only root" in told["reason"], told


def said(program: str, user: str) -> dict[str, Any]:
    command = (PYTHON, "-m", "tests.agent.groups.programs", program)
    done = unit(*command, user=user, Delegate="memory pids cpu", MemoryMax="300M")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def assert_alone(told: dict[str, Any]) -> None:
    print(told)
    assert told["code"] == -9
    assert told["kills"] == [0, 1]
    assert told["sibling"] is None
    assert 60 * MIB < told["peak"] <= 64 * MIB
    assert told["agent"] == ("" if IS_V1 else "agent")
