"""A mount of an agent's shards: follows what is registered and destroyed, and reads on when the agent is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.client import AgentError, Client
from carlib.cid import Cid
from fusefs import mounting
from tests.fixtures import REPOSITORY
from tests.fusefs.mounts import mounted, names_in, write_car

pytestmark = pytest.mark.fuse

HELLO = (Cid.of(b"hello\n"), b"hello\n")
WORLD = (Cid.of(b"world\n"), b"world\n")


@contextmanager
def running_agent() -> Iterator[subprocess.Popen[str]]:
    """`carfs agent`, ready; always ended."""
    command = [sys.executable, "-m", "agent.cli.main", "agent"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "ready:" in line:
                break
        yield process
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()


def register(key: str, car: Path, **more: object) -> None:
    Client().call("Carfs.RegisterShard", {"Key": key, "URL": car.as_uri(), "Wait": True, **more})


def eventually(holds: Callable[[], bool]) -> None:
    """Looks until it holds: the mount hears of changes a moment after they are made."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def greeting(tmp_path: Path) -> Path:
    return write_car(tmp_path / "greeting.car", [HELLO], [HELLO[0]])


def test_shards_appear_and_disappear_while_mounted(tmp_path: Path, greeting: Path) -> None:
    with running_agent(), mounted(tmp_path / "mnt") as mount:
        shards = mount.path / "shards"
        assert names_in(shards) == []
        assert not (shards / "one").exists()
        register("one", greeting)
        register("strange/key", greeting)
        eventually(lambda: sorted(names_in(shards)) == ["one", "strange%2Fkey"])
        assert (shards / "one" / "root").read_bytes() == b"hello\n"
        assert json.loads((shards / "one" / "shard.json").read_text())["State"] == "ShardStateServing"
        eventually(lambda: _destroyed("one"))
        eventually(lambda: names_in(shards) == ["strange%2Fkey"])
        eventually(lambda: not (shards / "one").exists())  # the kernel drops the name a moment later


def _destroyed(key: str) -> bool:
    """Whether it could be: not while the mount has it open, which it has for a while after the last read."""
    try:
        Client().call("Carfs.DestroyShard", {"Key": key})
    except AgentError as error:
        assert error.error_class == "busy"
        return False
    return True


def test_a_shard_made_anew_under_its_old_key_shows_its_new_content(tmp_path: Path, greeting: Path) -> None:
    with running_agent(), mounted(tmp_path / "mnt") as mount:
        root = mount.path / "shards" / "one" / "root"
        register("one", greeting)
        eventually(root.exists)
        assert root.read_bytes() == b"hello\n"
        eventually(lambda: _destroyed("one"))
        register("one", write_car(tmp_path / "other.car", [WORLD], [WORLD[0]]))
        eventually(lambda: root.exists() and root.read_bytes() == b"world\n")


def test_an_open_file_cannot_be_taken_away_by_destroy(tmp_path: Path, greeting: Path) -> None:
    with running_agent(), mounted(tmp_path / "mnt") as mount:
        register("one", greeting)
        root = mount.path / "shards" / "one" / "root"
        eventually(root.exists)
        with root.open("rb", buffering=0) as file:
            assert file.read(2) == b"he"
            with pytest.raises(AgentError) as refused:
                Client().call("Carfs.DestroyShard", {"Key": "one"})
            assert refused.value.error_class == "busy"


def test_reading_and_listing_go_on_without_the_agent_and_it_is_found_again(
    tmp_path: Path, greeting: Path
) -> None:
    with (
        mounted_with_agent(tmp_path, greeting) as (mount, agent),
        (mount / "one" / "root").open("rb") as file,
    ):
        agent.send_signal(signal.SIGKILL)
        agent.wait(20)
        status = mount.parent / ".carfs" / "status.json"
        eventually(lambda: json.loads(status.read_text())["Agent"]["Reachable"] is False)
        assert file.read() == b"hello\n"
        assert names_in(mount) == ["one", "two"]
        assert (mount / "two" / "root").read_bytes() == b"hello\n"
        with running_agent():
            eventually(lambda: json.loads(status.read_text())["Agent"]["Reachable"] is True)
            assert "one" in json.loads(status.read_text())["Leased"]
            register("three", greeting)
            eventually(lambda: names_in(mount) == ["one", "three", "two"])


@contextmanager
def mounted_with_agent(tmp_path: Path, car: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    with running_agent() as agent:
        register("one", car)
        register("two", car)
        with mounted(tmp_path / "mnt") as mount:
            yield mount.path / "shards", agent


def test_a_lazy_shard_is_indexed_when_it_is_first_read(tmp_path: Path, greeting: Path) -> None:
    with running_agent(), mounted(tmp_path / "mnt") as mount:
        register("lazy", greeting, Lazy=True, Wait=False)
        shard = mount.path / "shards" / "lazy"
        eventually(shard.exists)
        assert sorted(names_in(shard)) == ["blocks", "roots", "shard.json"]
        assert names_in(shard / "roots") == [str(HELLO[0])]
        eventually(lambda: (shard / "root").exists())
        assert (shard / "root").read_bytes() == b"hello\n"


def test_a_broken_shard_shows_its_state_and_nothing_else(tmp_path: Path) -> None:
    junk = tmp_path / "junk.car"
    junk.write_bytes(b"this is not a CAR")
    with running_agent(), mounted(tmp_path / "mnt") as mount:
        with pytest.raises(AgentError):
            register("junk", junk)
        shard = mount.path / "shards" / "junk"
        eventually(lambda: shard.exists() and names_in(shard) == ["shard.json"])
        document = json.loads((shard / "shard.json").read_text())
        assert (document["State"], document["ErrorClass"]) == ("ShardStateErrored", "corrupt")
        assert os.getxattr(shard, "user.carfs.state") == b"ShardStateErrored"


def test_up_starts_both_and_ctrl_c_ends_both(tmp_path: Path, greeting: Path) -> None:
    command = [sys.executable, "-m", "agent.cli.main", "up", str(tmp_path / "mnt")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "Ctrl-C ends both" in line:
                break
        register("one", greeting)
        eventually((tmp_path / "mnt" / "shards" / "one" / "root").exists)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert mounting.mounted_at(tmp_path / "mnt") is None
        assert not Client().path.exists()
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()
