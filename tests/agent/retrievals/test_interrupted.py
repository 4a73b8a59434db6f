"""A DAG of a GiB, fetched by one agent from another over a link that is cut again and again, and from one that lies: it
comes whole, nothing bad is kept, and next to nothing is asked for twice."""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.agent.processes import AgentProcess, Shell, until
from tests.fixtures import REPOSITORY
from tests.wires import Wire, free_port

pytestmark = pytest.mark.slow

GIB = 1 << 30
CUTS = 20
KILLS = 5
READERS = 64
MOST_TWICE = 0.01
"""Of the bytes on the wire."""


class Counting(Wire):
    """Cuts all connections when so much has come back; may change a byte on the way."""

    def __init__(self, port: int, cuts: list[int], flip_at: int | None = None) -> None:
        self._cuts = sorted(cuts)
        self._flip_at = flip_at
        self.passed = 0
        self.cuts_made = 0
        super().__init__(port)
        self.url = f"http://127.0.0.1:{self.port}"

    def reached(self, count: int) -> bool:
        with self._lock:
            return self.passed >= count

    def back(self, data: bytes) -> bytes:
        with self._lock:
            begin, self.passed = self.passed, self.passed + len(data)
            is_due = bool(self._cuts) and self.passed >= self._cuts[0]
            if is_due:
                self._cuts.pop(0)
                self.cuts_made += 1
        if is_due:
            self.cut()
        if self._flip_at is not None and begin <= self._flip_at < begin + len(data):
            at = self._flip_at - begin
            return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        return data


@dataclass(frozen=True, slots=True)
class Big:
    """A file that an agent serves: the hash of its bytes, the port, its root, and the agent."""

    sha256: str
    port: int
    root: str
    agent: AgentProcess


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Big]:
    path = tmp_path_factory.mktemp("big")
    file, digest, port = path / "file", hashlib.sha256(), free_port()
    with file.open("wb") as out:
        for _ in range(GIB >> 24):
            piece = os.urandom(1 << 24)
            digest.update(piece)
            out.write(piece)
    (path / "a").mkdir()
    (path / "a/config.toml").write_text(f'[gateway]\nlisten = ["127.0.0.1:{port}"]\n')
    with AgentProcess(path / "a") as agent:
        code, said, err = Shell(agent.path, path)("client", "import", "--json", "--quiet", "file")
        assert code == 0, err
        yield Big(digest.hexdigest(), port, json.loads(said)["Root"], agent)
    file.unlink()


def fetched(agent: AgentProcess, big: Big, *urls: str) -> int:
    """Bytes of all blocks, once they are here."""
    found = agent.client.call("Carfs.StartRetrieval", {"Root": big.root, "From": list(urls)})
    record = agent.client.call("Carfs.WaitRetrieval", {"Retrieval": found["ID"]}, timeout_s=240)
    assert record["State"] == "RetrievalStateDone"
    return int(record["Bytes"])


def check_whole(agent: AgentProcess, big: Big, folder: Path) -> None:
    """Every block in the CAR is right, and the file is as it was; the CAR goes."""
    shell = Shell(agent.path, folder)
    (record,) = agent.client.call("Carfs.ListRetrievals")
    assert shell("car", "verify", "--quiet", record["CARPath"])[0] == 0
    command = [sys.executable, "-m", "agent.cli.main", "client", "cat", "--quiet", big.root]
    environment = {**os.environ, "CARFS_PATH": str(agent.path), "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as reading:
        assert reading.stdout is not None
        digest = hashlib.file_digest(reading.stdout, "sha256")  # type: ignore[arg-type]  # a pipe is no IO to typeshed
    assert (reading.returncode, digest.hexdigest()) == (0, big.sha256)
    assert shell("client", "drop-retrieval", big.root)[0] == 0


def test_a_link_that_is_cut_twenty_times_costs_next_to_nothing_twice(big: Big, tmp_path: Path) -> None:
    """A cut costs what lies in buffers: of the blocks that it tears, here of 1 MiB, the rest is asked for."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    wire = Counting(big.port, random.Random(seed).sample(range(GIB), CUTS))
    try:
        with AgentProcess(tmp_path / "c") as agent:
            size = fetched(agent, big, wire.url)
            assert wire.cuts_made == CUTS
            print(f"{wire.passed / size - 1:.2%} of the bytes twice")
            assert wire.passed / size - 1 < MOST_TWICE
            check_whole(agent, big, tmp_path)
    finally:
        wire.close()


def test_a_source_that_changes_a_byte_is_named_and_left_and_the_other_gives_the_rest(
    big: Big, tmp_path: Path
) -> None:
    liar, honest = Counting(big.port, [], flip_at=GIB // 20), Counting(big.port, [])
    try:
        with AgentProcess(tmp_path / "c") as agent:
            fetched(agent, big, liar.url, honest.url)
            assert f"{liar.url} is left" in agent.log()
            assert f"{honest.url} is left" not in agent.log()
            assert (
                liar.passed < GIB // 8
            )  # what is on its way from it, on other connections too, ends with that
            assert honest.passed > GIB // 2
            check_whole(agent, big, tmp_path)
    finally:
        liar.close()
        honest.close()


def test_a_client_that_is_killed_again_and_again_goes_on_from_there(big: Big, tmp_path: Path) -> None:
    """A kill costs what has come of blocks that are not whole, and what was not written yet, on each connection."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    wire = Counting(big.port, [])
    points = sorted(random.Random(seed).sample(range(GIB // 20, GIB - GIB // 20), KILLS))
    try:
        for number, point in enumerate(points):
            with AgentProcess(tmp_path / "c") as agent:
                if number == 0:
                    agent.client.call("Carfs.StartRetrieval", {"Root": big.root, "From": [wire.url]})
                until(partial(wire.reached, point))
                agent.kill()
        with AgentProcess(tmp_path / "c") as agent:
            record = agent.client.call("Carfs.WaitRetrieval", {"Retrieval": big.root}, timeout_s=240)
            assert record["State"] == "RetrievalStateDone"
            print(f"{wire.passed / GIB - 1:.2%} of the bytes twice")
            assert wire.passed / GIB - 1 < KILLS * MOST_TWICE
            check_whole(agent, big, tmp_path)
    finally:
        wire.close()


class Narrow(Wire):
    """Lets through so many bytes a second, on all connections together."""

    def __init__(self, port: int, rate: float) -> None:
        self._rate = rate
        self._free_s = time.monotonic()
        super().__init__(port)
        self.url = f"http://127.0.0.1:{self.port}"

    def back(self, data: bytes) -> bytes:
        with self._lock:
            self._free_s = max(self._free_s, time.monotonic()) + len(data) / self._rate
            wait_s = self._free_s - time.monotonic()
        time.sleep(max(0.0, wait_s))
        return data


def test_two_sources_of_one_rate_are_nearly_twice_as_fast_as_one(big: Big, tmp_path: Path) -> None:
    """The rates are made by the wire and well below what this machine can do: who is faster is no matter of luck."""
    wires = [Narrow(big.port, 40e6) for _ in range(2)]
    took_s = []
    try:
        for count in (1, 2):
            with AgentProcess(tmp_path / f"c{count}") as agent:
                begin_s = time.monotonic()
                fetched(agent, big, *(wire.url for wire in wires[:count]))
                took_s.append(time.monotonic() - begin_s)
                assert Shell(agent.path, tmp_path)("client", "drop-retrieval", big.root)[0] == 0
    finally:
        for wire in wires:
            wire.close()
    print(f"{took_s[0] / took_s[1]:.2f} times as fast")
    assert took_s[0] / took_s[1] >= 1.8


def test_many_slow_readers_cost_next_to_no_memory(big: Big) -> None:
    connections = []
    try:
        before = big.agent.resident_bytes()
        for _ in range(READERS):
            connection = socket.create_connection(("127.0.0.1", big.port))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connections.append(connection)
            target = f"/ipfs/{big.root}?format=car".encode()
            connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(10):
            for connection in connections:
                assert connection.recv(4096)
            time.sleep(0.3)
        grown = big.agent.resident_bytes() - before
    finally:
        for connection in connections:
            connection.close()
    print(f"{grown / (1 << 20):.1f} MiB for {READERS} readers")
    assert grown <= 32 << 20
