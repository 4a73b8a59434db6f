"""Killed at any point, and a disk that is full: an import is there completely or not at all."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import threading
import time
from pathlib import Path

import pytest

from agent.client import AgentError, AgentUnreachable
from carlib.pack import pack
from carlib.references import ReferenceBlockstore
from carlib.traversal import Traversal
from tests.agent.imports.worlds import everything_below, tree_at
from tests.agent.processes import AgentProcess, until

ROUNDS = 8


def import_until_it_dies(
    agent: AgentProcess, source: Path, name: str, answered: list[str], *, wait: bool
) -> None:
    try:
        agent.client.call("Carfs.Import", {"Path": str(source), "Name": name, "Kind": "dense", "Wait": wait})
    except (AgentUnreachable, AgentError):
        return
    answered.append(name)


@pytest.mark.slow
@pytest.mark.parametrize("wait", [True, False], ids=["waited for", "left to itself"])
def test_an_import_is_there_completely_or_not_at_all_however_often_the_agent_is_killed(
    tmp_path: Path, wait: bool
) -> None:
    chance = random.Random(11)
    answered: list[str] = []
    for number in range(ROUNDS):
        source = tree_at(tmp_path / f"set{number}", files=30, size=200_000 + number)
        with AgentProcess(tmp_path / "a") as agent:
            arguments = (agent, source, f"set{number}", answered)
            thread = threading.Thread(target=import_until_it_dies, args=arguments, kwargs={"wait": wait})
            thread.start()
            time.sleep(chance.uniform(0, 1.2))  # the moment of the kill is what is tried
            agent.kill()
            thread.join()
    with AgentProcess(tmp_path / "a") as agent:
        until(lambda: {one["State"] for one in agent.client.call("Carfs.Imports")} <= {"ImportStateReady"})
        records = agent.client.call("Carfs.Imports")
        assert set(answered) <= {one["Name"] for one in records}
        for record in records:
            expected = pack(Path(record["FilePath"]), tmp_path / "expected.car")
            with ReferenceBlockstore.open(Path(record["CARPath"]), Path("/")) as store:
                found = [visit.cid for visit in Traversal.of(store, *store.roots).walk()]
            assert (str(expected.root), expected.blocks) == (record["Root"], len(found))
        until(lambda: everything_below(agent.path) == {f"imports/{one['ID']}.car" for one in records})


@pytest.mark.privileged
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(small)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        (tmp_path / "x").write_bytes(os.urandom(20 << 20))
        source = tree_at(tmp_path / "set")
        with AgentProcess(small / "a") as agent:
            with pytest.raises(AgentError) as refused:
                agent.client.call("Carfs.Import", {"Path": str(tmp_path / "x"), "Kind": "dense"})
            assert refused.value.error_class == "no-space"
            assert os.strerror(errno.ENOSPC) in str(refused.value)
            assert agent.client.call("Carfs.Imports") == []
            until(lambda: not everything_below(agent.path))
            made = agent.client.call("Carfs.Import", {"Path": str(source)})  # by references there is room
            assert made["State"] == "ImportStateReady"
    finally:
        subprocess.run(["umount", str(small)], check=True)
