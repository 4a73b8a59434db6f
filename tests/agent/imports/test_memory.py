"""Memory: an import of a big file in a small group, agent and all, takes what one of a small file takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.groups.parents import parent, why_no_v1
from tests.agent.processes import AgentProcess

MIB, GIB = 1 << 20, 1 << 30
LIMIT = 256 * MIB
MOST = 100 * MIB  # of the worker


def spread(path: Path, size: int) -> Path:
    """A file that takes little of the disk, whose leaves all differ."""
    with path.open("wb") as file:
        for number, offset in enumerate(range(0, size, MIB)):
            file.seek(offset)
            file.write(number.to_bytes(8, "big"))
        file.truncate(size)
    return path


def peak(pid: int) -> int:
    """VmHWM."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


@pytest.mark.privileged
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ref", "dense"])
def test_memory_is_flat_whatever_the_size(tmp_path: Path, kind: str) -> None:
    if why_no_v1():
        pytest.skip(why_no_v1())
    size = 4 * GIB if kind == "ref" else GIB // 2
    source = spread(tmp_path / "big", size)
    with (
        parent() as group,
        AgentProcess(tmp_path / "a", environ={"CARFS_RESOURCES_CHILD_GROUPS": "off"}) as agent,
    ):
        (group.folder / "memory.limit_in_bytes").write_text(str(LIMIT))
        (group.folder / "cgroup.procs").write_text(str(agent.process.pid))
        params = {"Path": str(source), "Kind": kind}
        made = agent.client.call("Carfs.Import", params, timeout_s=300)
        assert (made["State"], made["Size"]) == ("ImportStateReady", size)
        workers = agent.workers()
        assert workers
        members = set(map(int, (group.folder / "cgroup.procs").read_text().split()))
        assert {agent.process.pid, *workers} <= members
        assert max(map(peak, workers)) < MOST
        (record,) = agent.client.call("Carfs.Imports")
        if kind == "ref":
            assert Path(record["CARPath"]).stat().st_size < size // 1000
