"""In a unit with Delegate= each worker has a group of its own, and one that lies about its memory dies alone."""

from __future__ import annotations

import json

from tests.machine.guest import PYTHON, unit

MACHINES = ("run", "box")
MIB = 1 << 20


def check() -> None:
    program = (PYTHON, "-m", "tests.agent.groups.programs", "liar")
    done = unit(*program, Delegate="memory pids cpu", MemoryMax="300M")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    print(said)
    assert said["code"] == -9
    assert said["kills"] == [0, 1]
    assert said["sibling"] is None
    # Linux 6.1 has memory.peak; near the limit, of which memory.high keeps it a little away for a moment.
    assert 56 * MIB < said["peak"] <= 64 * MIB
    assert said["agent"] in ("agent", ""), "on v2 it is in its leaf, on v1 where it was"
