"""Whatever stands in the files: nothing is raised, and no limit grows beyond what the other sources say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.resources import explaining, reading
from agent.resources.context import Context
from agent.resources.facts import Problem, Resource, Snapshot
from agent.resources.settings import ResourcesConfig
from agent.resources.sources import SOURCES
from tests.agent.resources.captured import NAMES, GivenFiles, captured

CONFIG = ResourcesConfig(memory="1TiB")
USERS = {
    "/proc/meminfo": "host", "/proc/loadavg": "host", "/proc/sys/": "host", "/sys/devices/": "host",
    "/proc/self/status": "affinity", "/proc/self/limits": "rlimit",
}  # fmt: skip
"""Who reads a file; the others are of cgroups."""

lines = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.sampled_from(["max", "max 100000", "-1", "0", "99999999999999999999999", "1 0", "0-", "\0", "١٢", "+5"]),
        st.builds("{} {}".format, st.sampled_from(["MemTotal:", "some", "inactive_file", "hierarchical_memory_limit"]),
                  st.integers(-(1 << 70), 1 << 70)),
        st.builds("{} {} 0:1 {} {} rw - cgroup2 x {}".format, st.integers(), st.integers(),
                  st.sampled_from(["/", "/..", "/a"]), st.sampled_from(["/", "/sys/fs/cgroup"]), st.text(max_size=9)),
        st.builds("{}:{}:{}".format, st.integers(0, 9), st.sampled_from(["memory", "", "cpu"]), st.text(max_size=9)),
    ),
    max_size=6,
)  # fmt: skip
contents = st.one_of(
    lines.map("\n".join), st.sampled_from([1, 2, 5, 13, 20, 24])
)  # or the number of an error


def smallest(snapshot: Snapshot, resource: Resource, without: set[str]) -> float:
    """The smallest limit that the other sources know."""
    limits = [
        fact.limit
        for fact in snapshot.facts
        if fact.resource is resource and fact.source not in without and fact.limit is not None
    ]
    return min(limits, default=math.inf)


def check(machine: GivenFiles, whole: Snapshot, spoiled: dict[str, str | int]) -> None:
    """That the spoiled machine limits at least as much as the sources do that the spoiled files are not of."""
    users = {
        next((user for start, user in USERS.items() if path.startswith(start)), "cgroup") for path in spoiled
    }
    if "affinity" in users and any(path.endswith("cgroup.procs") for path in machine.found):
        users.add("cgroup")  # the group was found by the number of the process
    without = users | ({"cgroup-v1", "cgroup-v2"} if "cgroup" in users else set())
    found = machine.but(spoiled).snapshot(CONFIG)
    for resource in Resource:
        bound = getattr(found, resource.value)
        limit = math.inf if bound.limit is None else bound.limit
        assert limit <= smallest(whole, resource, without)
        if bound.headroom is not None:
            assert 0 <= bound.headroom <= limit
    assert not [one for one in found.problems if "a mistake in carfs" in one.message]
    assert explaining.lines(found)


@settings(max_examples=150)
@given(st.data())
def test_garbage_in_any_file_raises_nothing_and_raises_no_limit(data: st.DataObject) -> None:
    machine = captured(data.draw(st.sampled_from(NAMES)))
    paths = data.draw(st.lists(st.sampled_from(sorted(machine.found)), min_size=1, max_size=3, unique=True))
    check(machine, machine.snapshot(CONFIG), {path: data.draw(contents) for path in paths})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", ["", "junk\n", "-5\n", "max\n", 13])
def test_each_file_may_be_anything(name: str, content: str | int) -> None:
    machine = captured(name)
    whole = machine.snapshot(CONFIG)
    for path in machine.found:
        check(machine, whole, {path: content})


@settings(max_examples=100)
@given(st.data())
def test_garbage_in_one_level_leaves_the_limits_of_the_others(data: st.DataObject) -> None:
    machine = captured("v2-unit-in-slice")
    folder = "/sys/fs/cgroup/carfs.slice/carfs.service/"
    spoiled = {path: data.draw(contents) for path in machine.found if path.startswith(folder)}
    found = machine.but(spoiled).snapshot()
    assert found.memory.limit is not None
    assert found.memory.limit <= 300 << 20  # that of the slice


def test_a_mistake_in_one_source_is_told_and_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, expect_warning: object
) -> None:
    def broken(_context: Context) -> list[object]:
        raise ZeroDivisionError("broken")

    assert callable(expect_warning)
    expect_warning("limits cannot be read from test")
    monkeypatch.setattr(reading, "SOURCES", (("test", broken), *SOURCES))
    found = captured("v2-unit-in-slice").snapshot()
    assert found.problems == (Problem("test", "", "a mistake in carfs: ZeroDivisionError('broken')"),)
    assert found.memory.limit == 200 << 20
