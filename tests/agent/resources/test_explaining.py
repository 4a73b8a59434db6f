"""`carfs resources --explain`: every fact with its file, what binds, what went wrong."""

from __future__ import annotations

import subprocess
import sys

from agent.resources import explaining
from agent.resources.facts import Bound, Fact, Resource
from agent.resources.settings import ResourcesConfig
from tests.agent.resources.captured import captured
from tests.fixtures import REPOSITORY

PAGE = REPOSITORY / "docs" / "limits.md"


def test_w12_every_fact_stands_there_with_its_file_and_every_problem_too() -> None:
    machine = captured("v2-unit-in-slice").but({"/sys/fs/cgroup/carfs.slice/memory.max": "junk\n"})
    snapshot = machine.snapshot(ResourcesConfig(memory="1GiB"))
    text = "\n".join(explaining.lines(snapshot))
    for fact in snapshot.facts:
        assert any(
            fact.level in line and fact.name in line and fact.file in line for line in text.split("\n")
        )
    assert "problem: cgroup-v2: /sys/fs/cgroup/carfs.slice/memory.max: 'junk' is not a number" in text


def test_w12_what_binds_is_marked_once_in_each_table() -> None:
    lines = explaining.lines(captured("v2-unit-in-slice").snapshot())
    marked = [line for line in lines if "smallest limit" in line]
    assert [line.split("<-")[0].split()[-2] for line in marked] == [
        "memory.high", "memory.swap.max", "cpu.max", "pids.max",
    ]  # fmt: skip
    assert sum("least left" in line for line in lines) == 3  # nobody tells how much CPU is used


def test_the_examples_of_the_page_are_what_is_said() -> None:
    page = PAGE.read_text()
    for name in ("v2-unit-in-slice", "v1-namespace"):
        memory = explaining.lines(captured(name).snapshot())
        start = next(number for number, line in enumerate(memory) if line.startswith("memory:"))
        table = "\n".join(memory[start : memory.index("", start)])
        assert table in page


def test_a_limit_is_named_by_level_and_file() -> None:
    fact = Fact(Resource.MEMORY, "cgroup-v2", "system.slice/carfs.service", "memory.max", "/f", 1, 0)
    assert explaining.by(fact) == "system.slice/carfs.service memory.max"
    assert explaining.by(None) == ""


def test_a_resource_is_summed_up_in_a_line() -> None:
    fact = Fact(Resource.CPUS, "cgroup-v2", "a.slice", "cpu.max", "/f", 1500)
    assert explaining.summary(Resource.CPUS, Bound(1500, fact)) == "cpus: 1.5 by a.slice cpu.max"
    assert explaining.summary(Resource.PIDS, Bound()) == "pids: nothing limits it"
    assert explaining.summary(Resource.SWAP, Bound()) == "swap: nothing is known of it, so none is used"
    assert (
        explaining.summary(Resource.MEMORY, captured("v2-parent-only").snapshot().memory)
        == "memory: 300 MiB by carfs.slice memory.max, of which 292 MiB are left under carfs.slice memory.max"
    )


def test_a_command_that_explains_loads_no_event_loop() -> None:
    code = "import agent.resources.explaining, sys; print({'trio', 'numpy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=REPOSITORY, text=True) == "set()\n"
