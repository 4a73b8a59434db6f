"""An agent that scrubs, killed in the middle and started again; and a real mount of what it has repaired."""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.client import Json
from agent.dagstore.mounts import FileMount
from agent.repository import Repository
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.pack import pack
from tests.agent.processes import AgentProcess, until
from tests.agent.scrub.test_in_dagstore import agent_at
from tests.agent.scrub.worlds import BLOCKS, rot, section_of, write_car
from tests.fusefs.mounts import mounted

MIB = 1 << 20
DATA = random.Random(3).randbytes(6 * MIB)
AT_ONCE = {"CARFS_SCRUB_INTERVAL_DAYS": "0.000001"}  # a run after the other


async def registered(path: Path, key: str, car: Path, *replicas: Path) -> None:
    """State of an agent that has the shard, indexed."""
    repository = Repository(path)
    repository.create()
    async with agent_at(repository.path, repository.indices, repository.repairs) as (dagstore, _):
        await dagstore.register(key, str(car), wait=True, replicas=[FileMount(one).url for one in replicas])


def scrub_of(agent: AgentProcess) -> Json:
    return agent.client.call("Carfs.ShardInfo", ["a"])["Scrub"] or {}


def bad_is(agent: AgentProcess, bad: int, repaired: int) -> Callable[[], bool]:
    def holds() -> bool:
        found = scrub_of(agent)
        return bool(found.get("Verdict")) and (found["Bad"], found["Repaired"]) == (bad, repaired)

    return holds


def damaged_tree(folder: Path) -> tuple[Path, Path]:
    """A CAR of a big and a small file whose big one has a flipped bit in its third block, and a good copy of it."""
    (folder / "tree").mkdir()
    (folder / "tree" / "big").write_bytes(DATA)
    (folder / "tree" / "small").write_bytes(b"small\n")
    car = folder / "a.car"
    pack(folder / "tree", car)
    copy = folder / "copy.car"
    copy.write_bytes(car.read_bytes())
    return car, copy


def third_block(car: Path) -> int:
    with ReadOnlyBlockstore.open(car) as blocks:
        found = blocks.locate(Cid.of(DATA[2 * MIB : 3 * MIB]))
        assert found is not None
        return found.data_offset


async def test_a_scrub_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    car = write_car(tmp_path / "a.car")
    await registered(tmp_path / "state", "a", car)
    rot(car, section_of(car, BLOCKS[1][0])[0] + 100)
    slow = {**AT_ONCE, "CARFS_SCRUB_BANDWIDTH": "200000"}
    with AgentProcess(tmp_path / "state", environ=slow) as agent:
        until(lambda: scrub_of(agent).get("Run") and scrub_of(agent)["Run"]["Position"])
        before = scrub_of(agent)
        agent.kill()
    assert (before["Bad"], before["Run"]["Position"] < car.stat().st_size) == (1, True)
    with AgentProcess(tmp_path / "state", environ={"CARFS_SCRUB_BANDWIDTH": "0"}) as agent:
        until(lambda: scrub_of(agent).get("Verdict"))
        after = scrub_of(agent)
        assert after["Verdict"]["Run"] == before["Run"]["ID"]
        assert (after["Verdict"]["Outcome"], after["Bad"]) == ("damaged", 1)
        assert after["FirstBad"][0]["CID"] == str(BLOCKS[1][0])
        assert agent.states() == {"a": "Available"}


@pytest.mark.fuse
async def test_a_bad_block_without_a_replica_is_eio_for_that_block_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARFS_PATH", str(tmp_path / "state"))
    car, _ = damaged_tree(tmp_path)
    await registered(tmp_path / "state", "a", car)
    rot(car, third_block(car) + 500)
    with AgentProcess(tmp_path / "state", environ=AT_ONCE) as agent, mounted(tmp_path / "mnt") as mount:
        until(bad_is(agent, 1, 0))
        folder = mount.path / "shards" / "a"
        until(lambda: json.loads((folder / "shard.json").read_text())["Quarantined"])
        with (folder / "root" / "big").open("rb", buffering=0) as file:
            assert os.pread(file.fileno(), 2 * MIB, 0) == DATA[: 2 * MIB]
            with pytest.raises(OSError) as refused:
                os.pread(file.fileno(), 4096, 2 * MIB)
            assert refused.value.errno == errno.EIO
            assert os.pread(file.fileno(), MIB, 3 * MIB) == DATA[3 * MIB : 4 * MIB]
        assert (folder / "root" / "small").read_bytes() == b"small\n"


@pytest.mark.fuse
async def test_a_bad_block_reads_again_through_an_open_mount_once_it_is_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARFS_PATH", str(tmp_path / "state"))
    car, copy = damaged_tree(tmp_path)
    whole = copy.read_bytes()
    await registered(tmp_path / "state", "a", car, copy)
    rot(car, third_block(car) + 500)
    damaged = car.read_bytes()
    copy.rename(tmp_path / "away")
    with AgentProcess(tmp_path / "state", environ=AT_ONCE) as agent, mounted(tmp_path / "mnt") as mount:
        with pytest.raises(OSError, match="Input/output error"):
            (mount.path / "shards" / "a" / "root" / "big").read_bytes()
        (tmp_path / "away").rename(copy)
        folder = mount.path / "shards" / "a"
        until(bad_is(agent, 0, 1))
        until(lambda: json.loads((folder / "shard.json").read_text())["Access"]["Kind"] == "repaired")
        assert (folder / "root" / "big").read_bytes() == DATA
        record = json.loads((folder / "shard.json").read_text())
        start, size = record["DataOffset"], record["DataSize"]
        assert (folder / "data.car").read_bytes() == whole[start : start + size]
    assert car.read_bytes() == damaged
