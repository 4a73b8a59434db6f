"""A file inside a CAR on another host: browsed through the mount at once, beside downloading the CAR first."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench.data import BIG_FILE, Data
from tests.bench.processes import CARFS, agent_answers, mounted, running
from tests.bench.table import Table, seconds_text
from tests.network.hosts import Host, hosts, why_none
from tests.network.link import Conditions

RTT_MS = 20.0
FIRST_BYTES = 4096
MB = 1e6

_DOWNLOAD = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1]) as response, open(sys.argv[2], "wb") as out:
    while piece := response.read(1 << 20):
        out.write(piece)
"""


def measure(data: Data) -> None:
    """Prints the table: seconds from `register` to the first bytes of a file of the CAR."""
    if why := why_none():
        print(f"\nNo figures of remote CARs: {why}")
        return
    table = Table(
        f"A file in a CAR at the end of a link of {RTT_MS:.0f} ms: from registering to its first 4 KiB",
        ("carfs mount", "download, then carfs mount"),
    )
    table.begin()
    for car, inside in (
        (data.car("one"), BIG_FILE),
        (data.unwrapped("one"), BIG_FILE),
        (data.car("tree"), "0007/42.txt"),
    ):
        size = car.stat().st_size
        with _server(car.parent) as (near, url):
            ours, fetched = _first_bytes_remote(near, f"{url}/{car.name}", inside)
            theirs = _first_bytes_downloaded(near, f"{url}/{car.name}", inside)
        table.row(f"`{car.name}`, {size >> 20:,} MiB", seconds_text(ours), seconds_text(theirs))
        table.row("bytes fetched for that", f"{fetched / MB:,.1f} MB", f"{size / MB:,.1f} MB")


@contextmanager
def _server(folder: Path) -> Iterator[tuple[Host, str]]:
    """The host that reads, and the URL at which the other serves the folder."""
    with hosts(Conditions(delay_ms=RTT_MS / 2)) as both:
        command = both.far.command([sys.executable, "-m", "tests.bench.range_server", str(folder)])
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            try:
                yield both.near, f"http://{both.far.address}:{port}"
            finally:
                server.terminate()


def _first_bytes_remote(near: Host, url: str, inside: str) -> tuple[float, int]:
    """Seconds, and bytes of the CAR that were fetched."""
    with tempfile.TemporaryDirectory() as folder:
        state, mountpoint = Path(folder) / "state", Path(folder) / "mnt"
        environment = {**os.environ, "CARFS_PATH": str(state), "CARFS_MOUNTS_ALLOW_PRIVATE": "true"}

        with (
            running(near.command([CARFS, "agent"]), partial(agent_answers, environment), environment),
            mounted(near.command([CARFS, "mount", "-f"]), mountpoint, environment),
        ):
            begun = time.perf_counter()
            subprocess.run(
                [CARFS, "dagstore", "register-shard", "--quiet", "remote", url],
                env=environment, check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            _read(mountpoint / "shards" / "remote" / "root" / inside)
            seconds = time.perf_counter() - begun
        kept = (state / "dagstore" / "transients").glob("*.data")
        return seconds, sum(path.stat().st_blocks for path in kept) * 512


def _first_bytes_downloaded(near: Host, url: str, inside: str) -> float:
    with tempfile.TemporaryDirectory(dir=Path(".bench")) as folder:
        car, mountpoint = Path(folder) / "downloaded.car", Path(folder) / "mnt"
        begun = time.perf_counter()
        subprocess.run(near.command([sys.executable, "-c", _DOWNLOAD, url, str(car)]), check=True)
        with mounted([CARFS, "mount", "-f", str(car)], mountpoint):
            _read(mountpoint / inside)
            return time.perf_counter() - begun


def _read(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        assert file.read(FIRST_BYTES)
