"""A reading as a whole: what it costs, and the machine that the tests run on."""

from __future__ import annotations

from collections import Counter

import pytest

from agent.resources import explaining, reading
from agent.resources.facts import Mode
from agent.resources.files import MachineFiles
from agent.resources.settings import ResourcesConfig
from tests.agent.resources.captured import NAMES, GivenFiles, captured, host

MOST_FILES = 60  # each some 10 µs
SLOW_LOOKS = "cgroup.procs"  # once, and then remembered


class CountingFiles(GivenFiles):
    """Given files that count how often each is read."""

    def __init__(self, machine: GivenFiles) -> None:
        super().__init__(machine.found)
        self.reads: Counter[str] = Counter()

    def read(self, path: str) -> str:
        self.reads[path] += 1
        return super().read(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_reading_reads_few_files_and_each_once(name: str) -> None:
    files = CountingFiles(captured(name))
    reading.read(files, ResourcesConfig())
    files.reads.clear()
    reading.read(files, ResourcesConfig())
    assert set(files.reads.values()) == {1}
    assert len(files.reads) <= MOST_FILES
    assert not [path for path in files.reads if path.endswith(SLOW_LOOKS)]


def test_this_machine_can_be_read() -> None:
    found = reading.read(MachineFiles(), ResourcesConfig(memory="64TiB"))
    assert found.memory.limit is not None
    assert found.memory.headroom is not None
    assert 0 <= found.memory.headroom <= found.memory.limit
    assert found.cpus.limit
    assert found.mode in Mode
    assert explaining.lines(found)
    assert not [one for one in found.problems if "a mistake in carfs" in one.message]


def test_files_below_another_root_are_read_in_its_place(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("machine")
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_bytes(b"MemTotal: 1000 kB\nMemAvailable: 400 kB\n\xff\n")
    files = MachineFiles(str(root))
    assert (files.exists("/proc/meminfo"), files.exists("/proc/stat")) == (True, False)
    assert files.folders("/proc") == ["self"]
    found = reading.read(files, ResourcesConfig())
    assert (found.memory.limit, found.memory.headroom) == (1000 << 10, 400 << 10)


NODE = """
Node {0} MemTotal:       1000 kB
Node {0} MemFree:         100 kB
Node {0} Active(file):     80 kB
Node {0} Inactive(file):   50 kB
Node {0} SReclaimable:     20 kB
"""


def test_the_machine_has_a_limit_also_where_proc_meminfo_is_hidden() -> None:
    """`ProcSubset=pid` in a unit; else all that comes would fit."""
    nodes = {f"/sys/devices/system/node/node{number}/meminfo": NODE.format(number) for number in (0, 1)}
    found = GivenFiles({**host(), **nodes, "/proc/meminfo": 2}).snapshot()
    assert (found.memory.limit, found.memory.headroom) == (2000 << 10, 400 << 10)
    assert explaining.by(found.memory.limit_by) == "host MemTotal"
    assert [one.file for one in found.problems] == ["/proc/meminfo"]
