"""Data over HTTP on loopback: a DAG as a CAR and block by block, and fetched, verified and kept.

Kubo has the same DAG in its own store, and serves it without a network (`--offline`). What binds fetching is `curl` of
the same bytes from the same server, which verifies nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from carlib.blockstore import ReadOnlyBlockstore
from tests.bench.data import Data
from tests.bench.peers import Peers
from tests.bench.processes import CARFS, agent_answers, running
from tests.bench.table import REPEATS, Table, best_s, rate
from tests.wires import free_port

BLOCKS = 2_000
MB = 1e6


def measure(data: Data, peers: Peers) -> None:
    """Prints both tables."""
    car = data.car("one")
    size = data.unwrapped("one").stat().st_size
    with ReadOnlyBlockstore.open(car) as store:
        root = str(store.roots[0])
        blocks = [str(cid) for (cid, _), _ in zip(store.cids(), range(BLOCKS), strict=False)]
    with tempfile.TemporaryDirectory(dir=data.folder) as text:
        folder = Path(text)
        with _agent(folder / "a", car, root) as ours, _kubo(folder / "kubo", peers.kubo, car) as theirs:
            _serving(size, root, blocks, ours, theirs)
            _fetching(size, root, folder, ours, peers.kubo)


def _serving(size: int, root: str, blocks: Sequence[str], ours: int, theirs: int | None) -> None:
    table = Table(f"Serving a DAG of {size >> 20:,} MiB over loopback, to curl", ("carfs", "Kubo's gateway"))
    table.begin()
    ports = [port for port in (ours, theirs) if port is not None]
    dag = [_curl(f"http://127.0.0.1:{port}/ipfs/{root}?format=car", Path(os.devnull)) for port in ports]
    table.row("CAR", *(rate(size / MB, seconds, "MB") for seconds in dag))
    found = [best_s(lambda port=port: _raw(port, blocks)) for port in ports]  # type: ignore[misc]
    table.row("raw blocks on one connection", *(rate(len(blocks), seconds, "blocks") for seconds in found))


def _fetching(size: int, root: str, folder: Path, ours: int, kubo: Path | None) -> None:
    table = Table(
        f"Fetching the same {size >> 20:,} MiB from carfs",
        ("carfs (verified, kept)", "curl to a file", "curl into ipfs dag import"),
    )
    table.begin()
    url = f"http://127.0.0.1:{ours}"
    state = folder / "fetching"
    state.mkdir()
    (state / "config.toml").write_text("[retrieval]\nallow_local = false\n")
    environment = {**os.environ, "CARFS_PATH": str(state)}
    with running([CARFS, "agent"], lambda: agent_answers(environment), environment):
        took = []
        for _ in range(REPEATS):
            begun = time.perf_counter()
            subprocess.run(
                [CARFS, "client", "retrieve", "--quiet", "--from", url, root],
                env=environment, check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            took.append(time.perf_counter() - begun)
            subprocess.run(
                [CARFS, "client", "drop-retrieval", root],
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )
    plain = _curl(f"{url}/ipfs/{root}?format=car", folder / "fetched.car")
    imported = None
    if kubo is not None:
        repository = {**os.environ, "IPFS_PATH": str(folder / "into")}
        subprocess.run([kubo, "init"], env=repository, check=True, capture_output=True)
        pipe = f"curl -sf '{url}/ipfs/{root}?format=car' | '{kubo}' --offline dag import"
        imported = best_s(
            lambda: subprocess.run(
                ["bash", "-c", f"set -o pipefail; {pipe}"], env=repository, check=True, capture_output=True
            ),
            1,
        )
    table.row("all of it", *(rate(size / MB, seconds, "MB") for seconds in (min(took), plain, imported)))


def _curl(url: str, to: Path) -> float:
    command = ["curl", "--silent", "--fail", "--output", str(to), url]
    return best_s(lambda: subprocess.run(command, check=True))


def _raw(port: int, blocks: Sequence[str]) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    for cid in blocks:
        connection.request("GET", f"/ipfs/{cid}?format=raw")
        with connection.getresponse() as response:
            if response.status != 200 or not response.read():
                raise RuntimeError(f"{cid}: HTTP {response.status}")
    connection.close()


@contextmanager
def _agent(state: Path, car: Path, root: str) -> Iterator[int]:
    """One that serves a shard; gives the port."""
    port = free_port()
    state.mkdir()
    (state / "config.toml").write_text(f'[gateway]\nlisten = ["127.0.0.1:{port}"]\n')
    environment = {**os.environ, "CARFS_PATH": str(state)}
    with running([CARFS, "agent"], lambda: agent_answers(environment), environment):
        subprocess.run(
            [CARFS, "dagstore", "register-shard", "--quiet", "one", str(car)],
            env=environment, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        _wait(lambda: _status(port, f"/ipfs/{root}?format=raw") == 200)
        yield port


@contextmanager
def _kubo(repository: Path, program: Path | None, car: Path) -> Iterator[int | None]:
    """A daemon that has the same DAG; gives the port of its gateway."""
    if program is None:
        yield None
        return
    environment = {**os.environ, "IPFS_PATH": str(repository)}

    def ipfs(*arguments: str) -> None:
        subprocess.run([program, *arguments], env=environment, check=True, capture_output=True)

    port = free_port()
    ipfs("init")
    addresses = {
        "API": f"/ip4/127.0.0.1/tcp/{free_port()}", "Gateway": f"/ip4/127.0.0.1/tcp/{port}", "Swarm": [],
    }  # fmt: skip
    for key, value in addresses.items():
        ipfs("config", "--json", f"Addresses.{key}", json.dumps(value))
    ipfs("config", "--json", "Gateway.NoFetch", "true")
    ipfs("dag", "import", "--pin-roots=false", str(car))
    command = [str(program), "daemon", "--offline"]
    with running(command, lambda: _status(port, "/ipfs/bafkqaaa?format=raw") == 200, environment):
        yield port


def _wait(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError("what is to be served is not there after 60 s")
        time.sleep(0.05)


def _status(port: int, target: str) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", target)
        with connection.getresponse() as response:
            response.read()
            return response.status
    except OSError:
        return 0
    finally:
        connection.close()


def why_none() -> str:
    """Why nothing can be measured here; empty if it can."""
    return "" if shutil.which("curl") else "no curl"
