"""A DAG of a GiB, fetched by one agent from another over a link that is cut again and again, and from one that lies: it
comes whole, nothing bad is kept, and next to nothing is asked for twice."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.client import Client
from tests.agent.processes import AgentProcess, Shell

GIB = 1 << 30
CUTS = 20
MOST_TWICE = 0.02
"""Of the bytes on the wire."""
PROFILES = ("kubo-cid-v1", "carfs")


class Wire:
    """Carries connections to a port; cuts all of them when so much has passed; may change a byte on the way."""

    def __init__(self, port: int, cuts: list[int], flip_at: int | None = None) -> None:
        self._port = port
        self._cuts = sorted(cuts)
        self._flip_at = flip_at
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.passed = 0  # bytes that came from the server
        self.cut = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._cut_all()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                with self._lock:
                    self._sockets += [near, far]
                for pair in ((near, far, False), (far, near, True)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, is_back: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(self._counted(data) if is_back else data)
            target.shutdown(socket.SHUT_WR)

    def _counted(self, data: bytes) -> bytes:
        with self._lock:
            begin, self.passed = self.passed, self.passed + len(data)
            is_due = bool(self._cuts) and self.passed >= self._cuts[0]
            if is_due:
                self._cuts.pop(0)
                self.cut += 1
        if is_due:
            self._cut_all()
        if self._flip_at is not None and begin <= self._flip_at < begin + len(data):
            at = self._flip_at - begin
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        return data

    def _cut_all(self) -> None:
        with self._lock:
            cut, self._sockets = self._sockets, []
        for one in cut:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@dataclass(frozen=True, slots=True)
class Big:
    """A file, the port of the agent that serves it, and its roots by profile."""

    file: Path
    port: int
    roots: dict[str, str]


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Big]:
    path = tmp_path_factory.mktemp("big")
    file = path / "file"
    with file.open("wb") as out:
        for _ in range(GIB >> 24):
            out.write(os.urandom(1 << 24))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (path / "a").mkdir()
    (path / "a/config.toml").write_text(f'[gateway]\nlisten = ["127.0.0.1:{port}"]\n')
    with AgentProcess(path / "a") as agent:
        shell, roots = Shell(agent.path, path), {}
        for profile in PROFILES:
            code, said, err = shell("client", "import", "--json", "--quiet", "--profile", profile, "file")
            assert code == 0, err
            roots[profile] = json.loads(said)["Root"]
        yield Big(file, port, roots)
    file.unlink()


def cuts(count: int) -> list[int]:
    """Points at random; the seed is printed."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed).sample(range(GIB), count)


def asked(client: Client, root: str, *urls: str) -> int:
    return int(client.call("Carfs.StartRetrieval", {"Root": root, "From": list(urls)})["ID"])


def done(client: Client, number: int) -> int:
    """Waits for it; bytes of its blocks."""
    record = client.call("Carfs.WaitRetrieval", {"Retrieval": number}, timeout_s=240)
    assert record["State"] == "RetrievalStateDone"
    return int(record["Bytes"])


def is_whole(agent: AgentProcess, root: str, file: Path, folder: Path) -> None:
    """Every block is right, and the file is as it was."""
    shell = Shell(agent.path, folder)
    (record,) = agent.client.call("Carfs.ListRetrievals")
    assert shell("car", "verify", "--quiet", record["CARPath"])[0] == 0
    assert shell("client", "export", "--quiet", root, "out")[0] == 0
    with file.open("rb") as one, (folder / "out").open("rb") as other:
        while piece := one.read(1 << 24):
            assert other.read(1 << 24) == piece
        assert not other.read(1)
    (folder / "out").unlink()
    assert shell("client", "drop-retrieval", root)[0] == 0


@pytest.mark.slow
def test_a_link_that_is_cut_twenty_times_costs_next_to_nothing_twice(big: Big, tmp_path: Path) -> None:
    """A cut costs what has come of a block, here of 1 MiB, and lies in buffers, on each connection."""
    root = big.roots["carfs"]
    wire = Wire(big.port, cuts(CUTS))
    try:
        with AgentProcess(tmp_path / "c") as agent:
            size = done(agent.client, asked(agent.client, root, wire.url))
            assert wire.cut == CUTS
            print(f"{wire.passed / size - 1:.2%} of the bytes twice")
            assert wire.passed / size - 1 < MOST_TWICE
            is_whole(agent, root, big.file, tmp_path)
    finally:
        wire.close()


@pytest.mark.slow
def test_a_source_that_changes_a_byte_is_named_and_left_and_the_other_gives_the_rest(
    big: Big, tmp_path: Path
) -> None:
    root = big.roots["kubo-cid-v1"]
    liar, honest = Wire(big.port, [], flip_at=GIB // 20), Wire(big.port, [])
    try:
        with AgentProcess(tmp_path / "c") as agent:
            done(agent.client, asked(agent.client, root, liar.url, honest.url))
            assert f"{liar.url} is left" in agent.log()
            assert f"{honest.url} is left" not in agent.log()
            assert (
                liar.passed < GIB // 8
            )  # what is on its way from it, on other connections too, ends with that
            is_whole(agent, root, big.file, tmp_path)
    finally:
        liar.close()
        honest.close()
