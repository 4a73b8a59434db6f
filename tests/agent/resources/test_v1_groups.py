"""Real groups of cgroup v1 on this machine, as programs in them see their limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.resources import reading
from agent.resources.files import MachineFiles
from agent.resources.settings import ResourcesConfig
from tests.agent.groups.parents import why_no_v1
from tests.agent.resources.captured import MIB
from tests.fixtures import REPOSITORY

ROOT = Path("/sys/fs/cgroup/memory")
PROGRAM = """
import json, sys
from agent.resources import explaining, reading
from agent.resources.files import MachineFiles
from agent.resources.settings import ResourcesConfig
for line in sys.stdin:
    found = reading.read(MachineFiles(), ResourcesConfig())
    print(json.dumps({"limit": found.memory.limit, "by": explaining.by(found.memory.limit_by),
                      "left": found.memory.headroom, "swap": [fact.limit for fact in found.facts
                      if fact.resource == "swap" and fact.source == "cgroup-v1"],
                      "problems": [one.message for one in found.problems]}), flush=True)
"""


pytestmark = pytest.mark.skipif(bool(why_no_v1()), reason=why_no_v1())


class Groups:
    """A group and one in it."""

    def __init__(self, name: str) -> None:
        self.parent = ROOT / name
        self.child = self.parent / "child"
        self._programs: list[subprocess.Popen[str]] = []

    def limit(self, folder: Path, memory: int, both: int | None = None) -> None:
        (folder / "memory.limit_in_bytes").write_text(str(memory))
        if both is not None:
            (folder / "memory.memsw.limit_in_bytes").write_text(str(both))

    def program(self, *before: str) -> subprocess.Popen[str]:
        """A program in the child group, begun with what comes `before`, that tells its limits for each line it gets."""
        script = f'echo $$ >{self.child}/cgroup.procs && exec "$@"'
        command = ["sh", "-c", script, "-", *before, sys.executable, "-c", PROGRAM]
        program = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )  # fmt: skip
        self._programs.append(program)
        return program

    def close(self) -> None:
        for program in self._programs:
            program.kill()
            program.communicate()
        for folder in (self.child, self.parent):
            remove(folder)


def remove(folder: Path) -> None:
    """A group whose processes have ended, which the kernel may know a moment later than we."""
    for _ in range(500):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise TimeoutError(f"{folder} cannot be removed")


def ask(program: subprocess.Popen[str]) -> Any:  # Any: as JSON has it
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write("\n")
    program.stdin.flush()
    return json.loads(program.stdout.readline())


@pytest.fixture
def groups(request: pytest.FixtureRequest) -> Iterator[Groups]:
    made = Groups(f"carfs-test-limits-{os.getpid()}")
    try:
        made.child.mkdir(parents=True)
        yield made
    finally:
        made.close()


needs_swap_accounting = pytest.mark.skipif(
    not (ROOT / "memory.memsw.limit_in_bytes").exists(), reason="this kernel does not count swap"
)


def test_w3_a_limit_of_the_parent_alone_is_seen(groups: Groups) -> None:
    groups.limit(groups.parent, 300 * MIB)
    found = ask(groups.program())
    assert found["limit"] == 300 * MIB
    assert found["by"] == f"{groups.parent.name} memory.limit_in_bytes"
    assert 0 < found["left"] < 300 * MIB
    assert found["problems"] == []


def test_w3_the_smaller_of_nested_limits_counts(groups: Groups) -> None:
    groups.limit(groups.parent, 300 * MIB)
    groups.limit(groups.child, 900 * MIB)
    program = groups.program()
    assert ask(program)["limit"] == 300 * MIB
    groups.limit(groups.child, 200 * MIB)  # the next reading has it
    assert ask(program)["by"] == f"{groups.parent.name}/child memory.limit_in_bytes"


def test_w6_what_siblings_use_leaves_less(groups: Groups) -> None:
    groups.limit(groups.parent, 300 * MIB)
    groups.limit(groups.child, 290 * MIB)
    program = groups.program()
    before = ask(program)
    sibling = groups.parent / "sibling"
    sibling.mkdir()
    hog = subprocess.Popen(
        ["sh", "-c", f"echo $$ >{sibling}/cgroup.procs && exec \"$@\"", "-", sys.executable, "-c",
         "x = bytes([1]) * (100 << 20); print(flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert hog.stdout is not None
        assert hog.stdout.readline() == "\n"
        after = ask(program)
    finally:
        hog.kill()
        hog.communicate()
        remove(sibling)
    assert before["left"] - after["left"] > 90 * MIB
    assert after["by"].endswith("child memory.limit_in_bytes")


@needs_swap_accounting
def test_w4_swap_is_both_less_memory(groups: Groups) -> None:
    groups.limit(groups.child, 200 * MIB, 350 * MIB)
    assert ask(groups.program())["swap"][-1] == 150 * MIB


@needs_swap_accounting
def test_w3_a_namespace_hides_no_limit(groups: Groups) -> None:
    groups.limit(groups.parent, 300 * MIB, 300 * MIB)
    groups.limit(groups.child, 900 * MIB, 900 * MIB)
    old = ask(groups.program("unshare", "-C"))
    assert (old["limit"], old["by"]) == (300 * MIB, f"../../{groups.parent.name} memory.limit_in_bytes")
    script = f'umount -l {ROOT} && mount -t cgroup -o memory none {ROOT} && exec "$@"'
    new = ask(groups.program("unshare", "-C", "-m", "sh", "-c", script, "-"))
    assert (new["limit"], new["by"]) == (300 * MIB, "above / hierarchical_memory_limit")
    script = f'mount --bind {groups.child} {ROOT} && exec "$@"'
    bound = ask(groups.program("unshare", "-m", "sh", "-c", script, "-"))
    assert (bound["limit"], bound["by"].split()[-1]) == (300 * MIB, "hierarchical_memory_limit")


def test_a_process_that_is_moved_is_seen_in_its_new_group(groups: Groups) -> None:
    groups.limit(groups.child, 300 * MIB)
    program = groups.program()
    assert ask(program)["limit"] == 300 * MIB
    other = groups.parent / "other"
    other.mkdir()
    try:
        groups.limit(other, 200 * MIB)
        (other / "cgroup.procs").write_text(str(program.pid))
        assert ask(program)["limit"] == 200 * MIB
    finally:
        program.kill()
        program.communicate()
        remove(other)


def test_another_process_is_read_by_its_number(groups: Groups) -> None:
    groups.limit(groups.child, 300 * MIB)
    program = groups.program()
    ask(program)  # it is where it belongs
    found = reading.read(MachineFiles(), ResourcesConfig(), pid=program.pid)
    assert found.memory.limit == 300 * MIB
