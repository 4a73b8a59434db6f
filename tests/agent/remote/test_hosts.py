"""A whole agent and a remote worker: restarts of the agent, and a network between them that is late and loses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.client import AgentUnreachable, Client
from tests.agent.cars import write_car
from tests.agent.processes import AgentProcess, until
from tests.agent.remote.programs import END_S, program
from tests.fixtures import REPOSITORY
from tests.network.hosts import Host, hosts, why_none
from tests.network.link import Conditions

NO_ROOM = {
    "CARFS_RESOURCES_MEMORY": "1MiB",
    "CARFS_RESOURCES_PRESSURE": "0",
    "CARFS_WORKERS_HEARTBEAT_S": "1",
}
"""The agent can do nothing itself, so that whatever is done is done elsewhere, however the machine fares."""
PORT = 3453


def test_a_worker_joins_again_when_the_agent_was_killed_and_is_back(tmp_path: Path) -> None:
    car = write_car(tmp_path / "x.car")
    state = tmp_path / "state"
    with AgentProcess(state, environ=NO_ROOM) as first, program(tmp_path / "worker.log", state) as far:
        assert first.register("one", car)["State"] == "ShardStateAvailable"
        first.kill()
        until(lambda: "joining again as soon as that works" in far.log())
        with AgentProcess(state, environ=NO_ROOM) as second:
            assert second.register("two", car)["State"] == "ShardStateAvailable"
            assert "worker far has joined" in second.log()
        assert far.log().count("joined the agent at") == 2
        assert far.log().count(": finished") == 2


def test_the_agent_stops_while_a_worker_is_joined(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with AgentProcess(state, environ=NO_ROOM) as agent, program(tmp_path / "worker.log", state) as far:
        until(lambda: "has joined" in agent.log())
        agent.process.terminate()
        assert agent.process.wait(END_S) == 0
        until(lambda: "joining again" in far.log())


@contextmanager
def agent_on(host: Host, path: Path) -> Iterator[Client]:
    """`carfs agent` in a network namespace; its socket is seen from here as well."""
    environ = {
        "CARFS_PATH": str(path),
        "PYTHONPATH": str(REPOSITORY),
        "CARFS_RPC_LISTEN": f"{host.address}:{PORT}",
    }
    with (path.parent / "agent.log").open("wb") as log:
        process = subprocess.Popen(
            host.command([sys.executable, "-m", "agent.cli.main", "agent"]),
            env={**os.environ, **NO_ROOM, **environ}, stdin=subprocess.DEVNULL, stderr=log,
        )  # fmt: skip
    client = Client(path / "agent.sock", timeout_s=END_S)
    try:
        until(lambda: answers(client))
        yield client
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        finally:
            process.kill()
            process.wait()


def answers(client: Client) -> bool:
    try:
        client.call("Filecoin.Version")
    except AgentUnreachable:
        return False
    return True


@pytest.mark.privileged
@pytest.mark.skipif(bool(why_none()), reason=why_none())
def test_a_worker_on_another_host_works_over_a_late_and_lossy_link_and_survives_its_loss(
    tmp_path: Path,
) -> None:
    car = write_car(tmp_path / "x.car")
    log = tmp_path / "worker.log"
    with (
        hosts(Conditions(delay_ms=20, loss_percent=2)) as both,
        agent_on(both.far, tmp_path / "state") as client,
    ):
        token = tmp_path / "token"
        with (tmp_path / "create.log").open("wb") as errors:
            token.write_bytes(
                subprocess.run(
                    [sys.executable, "-m", "agent.cli.main", "auth", "create-token", "--perm", "admin"],
                    env={**os.environ, "CARFS_PATH": str(tmp_path / "state"), "PYTHONPATH": str(REPOSITORY)},
                    stdout=subprocess.PIPE, stderr=errors, check=True,
                ).stdout
            )  # fmt: skip
        where = f"{both.far.address}:{PORT}"
        with program(log, where, "--token-file", str(token), before=both.near.command([])) as far:
            register = {"URL": str(car), "Wait": True}
            assert (
                client.call("Carfs.RegisterShard", {"Key": "one", **register})["State"]
                == "ShardStateAvailable"
            )
            both.set(Conditions(loss_percent=100))
            until(lambda: "worker far is gone" in (tmp_path / "agent.log").read_text())
            until(lambda: "joining again" in far.log())
            both.set(Conditions(delay_ms=20, loss_percent=2))
            assert (
                client.call("Carfs.RegisterShard", {"Key": "two", **register})["State"]
                == "ShardStateAvailable"
            )
