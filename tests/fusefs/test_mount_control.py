"""`.carfs/` of a mount: what the agent says now, whole and of the size that `stat` tells, and something without it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.client import Client
from fusefs.control import NAMES
from tests.fusefs.mounts import mounted, names_in, write_car
from tests.fusefs.test_mount_agent import HELLO, eventually, register, running_agent

pytestmark = pytest.mark.fuse


def read_json(path: Path) -> Any:  # Any: JSON
    return json.loads(path.read_bytes())


def test_every_file_is_listed_and_as_big_as_stat_says(tmp_path: Path) -> None:
    with running_agent(), mounted(tmp_path / "mnt") as mount:
        control = mount.path / ".carfs"
        assert sorted(names_in(control)) == sorted(name.decode() for name in NAMES)
        for name in names_in(control):
            with (control / name).open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                assert len(file.read(size + 1)) == size > 0
            shutil.copy(control / name, tmp_path / name)
            assert (tmp_path / name).stat().st_size > 0
        assert not (control / "other.json").exists()


def test_what_is_read_is_what_the_agent_says_now(tmp_path: Path) -> None:
    car = write_car(tmp_path / "greeting.car", [HELLO], [HELLO[0]])
    with running_agent(), mounted(tmp_path / "mnt") as mount:
        control = mount.path / ".carfs"
        first = read_json(control / "tasks.json")
        status = read_json(control / "status.json")["Agent"]["Status"]
        assert status["Shards"] == {}
        with (control / "status.json").open("rb") as old:
            register("one", car)
            now = read_json(control / "status.json")
            assert json.loads(old.read())["Agent"]["Status"]["Shards"] == {}  # what is open stays as it was
        assert now["Agent"]["Status"]["Shards"] == {"ShardStateAvailable": 1}
        assert now["Agent"]["Status"]["UptimeSeconds"] > status["UptimeSeconds"]
        assert read_json(control / "tasks.json")["At"] > first["At"]
        resources = read_json(control / "resources.json")
        asked = Client().call("Carfs.Resources")
        assert resources["Reachable"] is True
        assert resources["Memory"]["LimitBy"] == asked["Memory"]["LimitBy"]
        families = {one.name for one in text_string_to_metric_families((control / "metrics").read_text())}
        assert {"carfs_up", "carfs_memory_limit_bytes", "carfs_rpc_calls"} <= families


def test_without_the_agent_the_last_that_is_known_is_told_as_such(tmp_path: Path) -> None:
    with running_agent() as agent, mounted(tmp_path / "mnt") as mount:
        control = mount.path / ".carfs"
        known = read_json(control / "resources.json")
        agent.send_signal(signal.SIGKILL)
        agent.wait(20)
        assert read_json(control / "resources.json") == {**known, "Reachable": False}
        assert read_json(control / "tasks.json") == {"Reachable": False}  # nobody has asked before
        assert read_json(control / "status.json")["Agent"]["Reachable"] is False
        assert (control / "metrics").read_text().splitlines()[-1] == "carfs_up 0.0"
        with running_agent():
            eventually(lambda: read_json(control / "status.json")["Agent"]["Reachable"])
            assert read_json(control / "tasks.json")["Reachable"] is True


def test_an_agent_that_hangs_counts_as_away(tmp_path: Path) -> None:
    with running_agent() as agent, mounted(tmp_path / "mnt") as mount:
        control = mount.path / ".carfs"
        agent.send_signal(signal.SIGSTOP)
        try:
            assert read_json(control / "tasks.json") == {"Reachable": False}
        finally:
            agent.send_signal(signal.SIGCONT)
