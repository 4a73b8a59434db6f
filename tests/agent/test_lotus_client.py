"""Lotus' own JavaScript client talks to the agent over TCP, with tokens, by HTTP and over a WebSocket."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.client import AgentError
from tests.agent.cars import CID, write_broken_car, write_car
from tests.agent.processes import AgentProcess
from tests.peers import program

pytestmark = pytest.mark.peers

Json = Any  # any value that JSON can carry
SCRIPT = Path(__file__).with_name("lotus_client.cjs")
LEVELS = ["read", "write", "sign", "admin"]


class LotusClient:
    """The client, as one process for each list of steps."""

    def __init__(self, agent: AgentProcess) -> None:
        node = shutil.which("node")
        if node is None:
            pytest.skip("no node here, which Lotus' JavaScript client needs")
        self._command = [node, str(SCRIPT), str(program("lotus_client").parents[2])]
        self._address = agent.client.call("Carfs.Addresses")["Listen"][0]
        self._agent = agent

    def token(self, level: str) -> str:
        allow = LEVELS[: LEVELS.index(level) + 1]
        return base64.b64decode(self._agent.client.call("Filecoin.AuthNew", [allow])).decode()

    def __call__(self, scheme: str, level: str, *steps: Json) -> list[Json]:
        """What came of each step."""
        done = subprocess.run(
            [*self._command, f"{scheme}://{self._address}/rpc/v0", self.token(level)],
            input=json.dumps(steps).encode(),
            capture_output=True,
            check=True,
            timeout=60,
        )
        assert done.stderr == b""
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    program("lotus_client")
    environ = {"CARFS_RPC_LISTEN": "127.0.0.1:0"}
    with AgentProcess(tmp_path_factory.mktemp("agent") / "a", environ=environ) as agent:
        yield agent


@pytest.fixture
def lotus(agent: AgentProcess) -> Iterator[LotusClient]:
    yield LotusClient(agent)
    for key in agent.states():
        agent.client.call("Carfs.DestroyShard", [key])


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_calls_work_both_ways(lotus: LotusClient, tmp_path: Path, scheme: str) -> None:
    options = {"URL": str(write_car(tmp_path / "x.car")), "Lazy": True}
    version, registered, listed, initialised, counted, allowed = lotus(
        scheme,
        "admin",
        ["call", "version"],
        ["call", "dagstoreRegisterShard", "a", options],
        ["call", "dagstoreListShards"],
        ["call", "dagstoreInitializeShard", "a"],
        ["call", "carfsCountShards", {"States": ["Available"]}],
        ["call", "authVerify", lotus.token("write")],
    )
    assert version["result"]["Version"].startswith("carfs-")
    assert listed["result"] == [{"Key": "a", "State": "ShardStateNew", "Error": ""}]
    assert (registered, initialised) == ({"result": None}, {"result": None})
    assert counted["result"]["Total"] == 1
    assert allowed["result"] == ["read", "write"]


def test_initialize_all_streams_over_a_websocket(
    lotus: LotusClient, agent: AgentProcess, tmp_path: Path
) -> None:
    car = str(write_car(tmp_path / "x.car"))
    for key in "ab":
        agent.client.call("Carfs.RegisterShard", {"Key": key, "URL": car, "Lazy": True})
    told, version = lotus(
        "ws",
        "write",
        ["stream", "dagstoreInitializeAll", {"MaxConcurrency": 1, "IncludeSealed": False}, 3],
        ["call", "version"],
    )
    assert [
        (one["Key"], one["Event"], one["Success"], one["Current"], one["Total"]) for one in told["values"]
    ] == [
        ("a", "start", False, 1, 2),
        ("a", "end", True, 1, 2),
        ("b", "start", False, 2, 2),
    ]
    assert "result" in version  # the socket lives on after the cancel


def test_an_errored_shard_is_recovered_with_lotus_words(
    lotus: LotusClient, agent: AgentProcess, tmp_path: Path
) -> None:
    path = write_broken_car(tmp_path / "x.car")
    with pytest.raises(AgentError):
        agent.register("a", path)
    (refused,) = lotus("ws", "write", ["call", "dagstoreRecoverShard", "a"])
    assert "x.car: offset" in refused["error"]
    write_car(path)
    recovered, again = lotus(
        "ws", "write", ["call", "dagstoreRecoverShard", "a"], ["call", "dagstoreRecoverShard", "a"]
    )
    assert recovered == {"result": None}
    assert again == {
        "error": "cannot recover shard; expected state ShardStateErrored, was: ShardStateAvailable"
    }


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_a_token_of_one_level_is_refused_the_next_in_lotus_words(lotus: LotusClient, scheme: str) -> None:
    listed, recovered, collected = lotus(
        scheme,
        "read",
        ["call", "dagstoreListShards"],
        ["call", "dagstoreRecoverShard", "a"],
        ["call", "dagstoreGC"],
    )
    assert listed == {"result": []}
    assert recovered == {"error": "missing permission to invoke 'DagstoreRecoverShard' (need 'write')"}
    assert collected == {"error": "missing permission to invoke 'DagstoreGC' (need 'admin')"}


def test_pieces_are_looked_up_by_cid(lotus: LotusClient, agent: AgentProcess, tmp_path: Path) -> None:
    agent.register("a", write_car(tmp_path / "x.car"))
    (found,) = lotus("ws", "admin", ["call", "dagstoreLookupPieces", {"/": str(CID)}])
    assert found == {"result": [{"Key": "a", "State": "ShardStateAvailable", "Error": ""}]}
