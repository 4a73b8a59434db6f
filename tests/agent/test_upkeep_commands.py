"""`carfs dagstore verify`, `complete` and `reindex`, and what `carfs status` says of them; with a real agent."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.cars import CID, write_car
from tests.agent.processes import AgentProcess, Shell, until
from tests.agent.scrub.worlds import BLOCKS, rot, section_of
from tests.agent.scrub.worlds import write_car as write_random_car

GREEN, RED, RESET = "\x1b[32m", "\x1b[31m", "\x1b[0m"
BAD = BLOCKS[7][0]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    config = tmp_path_factory.mktemp("config") / "config.toml"
    config.write_text(
        "[dagstore]\nretry_attempts = 0\nbreaker_failures = 1\nbreaker_pause_s = 300\n"
        "[mounts]\nallow_private = true\n"
    )
    with AgentProcess(tmp_path_factory.mktemp("agent") / "a", "--config", str(config)) as agent:
        yield agent


@pytest.fixture
def carfs(agent: AgentProcess, tmp_path: Path) -> Iterator[Shell]:
    yield Shell(agent.path, tmp_path)
    for key in agent.states():
        agent.client.call("Carfs.DestroyShard", [key])


@pytest.fixture
def rotten(agent: AgentProcess, carfs: Shell, tmp_path: Path) -> int:
    """Shards `good` and `rotten`, of which a bit flipped after it was indexed; the offset of that block."""
    car = write_random_car(tmp_path / "rotten.car")
    agent.register("good", write_random_car(tmp_path / "good.car"))
    agent.register("rotten", car)
    offset, _ = section_of(car, BAD)
    rot(car, offset + 500)
    return offset


def remote(agent: AgentProcess, key: str) -> None:
    """A shard whose data is not a local file."""
    url = "bytes:" + base64.urlsafe_b64encode(write_car(agent.path.with_name("x.car")).read_bytes()).decode()
    agent.client.call("Carfs.RegisterShard", {"Key": key, "URL": url.rstrip("="), "Wait": True})


def test_damage_is_named_block_by_block_and_the_exit_code_says_it(carfs: Shell, rotten: int) -> None:
    code, out, err = carfs("dagstore", "verify", "good", "rotten")
    assert (code, err) == (5, "")
    assert out.splitlines() == [
        "good GOOD 40 blocks, 5.7 MiB",
        f"rotten BAD offset {rotten}, {BAD}: block does not match its CID",
        "rotten DAMAGED 40 blocks, 5.7 MiB, 1 bad",
    ]
    assert carfs("dagstore", "verify", "good", "--color")[:2] == (
        0,
        f"good {GREEN}GOOD{RESET} 40 blocks, 5.7 MiB\n",
    )
    code, out, _ = carfs("dagstore", "verify", "rotten", "--json", "--depth", "full")
    events = [json.loads(line) for line in out.splitlines()]
    assert (code, [one["Event"] for one in events if one["Event"] != "progress"]) == (5, ["bad", "verdict"])
    assert events[-1]["Verdict"]["Outcome"] == "damaged"
    begun = next(one for one in events if "Total" in one)
    assert begun["Total"] > 40 * 150_000


def test_a_block_that_a_replica_still_has_is_repaired_and_that_is_no_failure(
    agent: AgentProcess, carfs: Shell, tmp_path: Path
) -> None:
    car, replica = write_random_car(tmp_path / "a.car"), write_random_car(tmp_path / "b.car")
    params = {"Key": "a", "URL": str(car), "Replicas": [str(replica)], "Wait": True}
    agent.client.call("Carfs.RegisterShard", params)
    offset, _ = section_of(car, BAD)
    rot(car, offset + 500)
    code, out, _ = carfs("dagstore", "verify", "a")
    assert (code, out.splitlines()[1:]) == (
        0,
        [
            f"a REPAIRED offset {offset}, {BAD}: from {replica.as_uri()}",
            "a REPAIRED 40 blocks, 5.7 MiB",
        ],
    )


def test_what_cannot_be_verified_is_a_line_and_an_exit_code(
    agent: AgentProcess, carfs: Shell, tmp_path: Path
) -> None:
    assert carfs("dagstore", "verify", "none")[::2] == (3, "carfs: shard not found: 'none'\n")
    carfs("dagstore", "register-shard", "--lazy", "new", str(write_car(tmp_path / "x.car")))
    code, out, _ = carfs("dagstore", "verify", "new")
    assert (code, out.startswith("new ERROR cannot verify shard; expected state ShardStateAvailable")) == (
        4,
        True,
    )


def test_lists_mark_a_shard_of_which_blocks_are_bad_and_leave_lotus_columns_to_lotus_clients(
    agent: AgentProcess, carfs: Shell, rotten: int
) -> None:
    carfs("dagstore", "verify", "rotten")
    mark = f"1 bad block {BAD} at offset {rotten}: block does not match its CID"
    _, good, line = carfs("dagstore", "list-shards")[1].splitlines()
    assert (good.split(), line.split()[:2], mark in line) == (
        ["good", "Available"],
        ["rotten", "Available"],
        True,
    )
    assert mark in carfs("dagstore", "list-shards", "--long")[1].splitlines()[2]
    assert [one["Error"] for one in agent.client.call("Filecoin.DagstoreListShards")] == ["", ""]
    assert [one["Key"] for one in agent.client.call("Carfs.ListQuarantined")] == ["rotten"]
    assert "1 shard with bad blocks" in carfs("status")[1]


def test_ctrl_c_ends_a_verification_in_the_agent_too(
    agent: AgentProcess, carfs: Shell, big_car: Path
) -> None:
    agent.register("big", big_car)
    running = carfs.begin("dagstore", "verify", "big")
    until(lambda: agent.client.call("Carfs.Status")["Scrub"]["Running"])
    assert "verifying big: " in carfs("status")[1]
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=60) == ("", "")
    assert running.returncode == 130
    until(lambda: not agent.client.call("Carfs.Status")["Scrub"]["Running"])


def test_all_of_a_remote_shard_can_be_fetched(agent: AgentProcess, carfs: Shell, tmp_path: Path) -> None:
    remote(agent, "far")
    assert carfs("dagstore", "complete", "far") == (0, "Fetched shard far\n", "")
    assert carfs("dagstore", "complete", "--no-wait", "far", "--json")[:2] == (
        0,
        '{\n  "Key": "far",\n  "Complete": false\n}\n',
    )
    carfs("dagstore", "register-shard", "near", str(write_car(tmp_path / "near.car")))
    assert carfs("dagstore", "complete", "near")[::2] == (
        2,
        "carfs: the data of shard 'near' are local: there is nothing to fetch\n",
    )
    assert carfs("dagstore", "complete", "none")[0] == 3
    assert f"copies    {(tmp_path / 'near.car').stat().st_size} B of remote data\n" in carfs("status")[1]


def test_the_index_of_look_ups_is_made_anew_and_compared(carfs: Shell, tmp_path: Path) -> None:
    carfs("dagstore", "register-shard", "a", str(write_car(tmp_path / "a.car", blocks=1)))
    code, out, err = carfs("dagstore", "reindex")
    assert (code, out.startswith("Indexed 1 block of 1 shard, "), err) == (0, True, "")
    assert json.loads(carfs("dagstore", "reindex", "--json")[1])["Shards"] == 1
    assert carfs("dagstore", "reindex", "--verify")[:2] == (0, "The index agrees with those of all shards.\n")
    assert json.loads(carfs("dagstore", "reindex", "--verify", "--json")[1]) == []
    assert carfs("dagstore", "lookup-pieces", str(CID))[1].splitlines()[1].split() == ["a", "Available"]


def test_an_index_of_look_ups_that_is_other_than_the_shards_is_corrupt_until_it_is_made_anew(
    agent: AgentProcess, carfs: Shell, tmp_path: Path
) -> None:
    agent.register("a", write_random_car(tmp_path / "a.car"))
    carfs("dagstore", "reindex")
    (segment,) = [
        path for path in (agent.path / "dagstore" / "inverted").iterdir() if path.stat().st_size > 1000
    ]
    data = segment.read_bytes()
    at = data.index(BAD.digest[4:20])
    with segment.open("r+b") as file:  # in place: the agent has it mapped
        file.seek(at)
        file.write(bytes([data[at] ^ 1]))
    code, out, _ = carfs("dagstore", "reindex", "--verify")
    assert (code, out != "") == (5, True)
    assert carfs("dagstore", "reindex")[0] == 0
    assert carfs("dagstore", "reindex", "--verify")[0] == 0


def test_an_origin_that_fails_is_in_the_status_and_among_the_doctors_findings(carfs: Shell) -> None:
    carfs("dagstore", "register-shard", "away", "http://127.0.0.1:9/x.car")
    lines = carfs("status")[1].splitlines()
    assert any(one.startswith("failing   http://127.0.0.1:9: once; left alone for ") for one in lines)
    code, out, _ = carfs("doctor")
    assert (code, "warning: origin-failing: http://127.0.0.1:9 fails" in out) == (1, True)


def test_many_shards_are_registered_with_one_indexer_and_paths_from_here(
    agent: AgentProcess, carfs: Shell, tmp_path: Path
) -> None:
    write_car(tmp_path / "x.car")
    line = json.dumps({"Key": "b", "URL": "x.car", "Replicas": ["y.car"], "ExistingTransient": "x.car"})
    code, out, _ = carfs(
        "dagstore", "register-shards", "--lazy", "--indexer", "aggregate", "-", stdin=f"a x.car\n{line}\n"
    )
    assert (code, out) == (0, "Registered 2 shards\n")
    b = agent.client.call("Carfs.ShardInfo", ["b"])
    assert (b["Replicas"], b["ExistingTransient"]) == (
        [(tmp_path / "y.car").as_uri()],
        str(tmp_path / "x.car"),
    )
    code, out, _ = carfs("dagstore", "register-shards", "--indexer", "none", "-", stdin="c x.car\n")
    assert (code, "there is no indexer 'none'" in out) == (1, True)
