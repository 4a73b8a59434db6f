"""In a unit with Delegate= each worker has a group of its own, and one that lies about its memory dies alone."""

from __future__ import annotations

import json

from tests.machine.guest import PYTHON, unit

MACHINES = ("run", "box")
MIB = 1 << 20
PROGRAM = (PYTHON, "-m", "tests.agent.groups.programs", "liar")


def check() -> None:
    for user in ("", "nobody"):
        done = unit(*PROGRAM, user=user, Delegate="memory pids cpu", MemoryMax="300M")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        print(user, said)
        assert said["code"] == -9
        assert said["kills"] == [0, 1]
        assert said["sibling"] is None
        assert 60 * MIB < said["peak"] <= 64 * MIB
        assert said["agent"] in ("agent", ""), "on v2 it is in its leaf, on v1 where it was"
