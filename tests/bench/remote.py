"""A file inside a CAR on a web server with latency: to its first byte, beside downloading the CAR first."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.client import Client
from carlib.cid import Cid
from carlib.unixfs.builder import Builder
from tests.agent.mounts.servers import Web, web_server
from tests.agent.transients.big_cars import Sink, write_big_car
from tests.bench.processes import CARFS, mounted
from tests.bench.table import Table, rate, seconds_text
from tests.fixtures import REPOSITORY

LATENCY_MS = 20
CONTENT = b"a small file\n" * 100
MB = 1e6


def measure(size: int) -> None:
    """Prints the table for CARs of `size` bytes in blocks of 1 MiB."""
    with (
        tempfile.TemporaryDirectory(prefix="carfs-bench-") as name,
        _home(Path(name)) as home,
        web_server(home) as web,
    ):
        for version in (1, 2):
            write_big_car(web.folder / f"v{version}.car", *_tree(), size=size, version=version)
        with _agent(), mounted([CARFS, "mount", "-f"], home / "mnt"):
            first = {version: _first_byte(web, home / "mnt", version) for version in (2, 1)}
            payload = home / "mnt" / "shards" / "v2" / "data.car"
            sequential = rate(size / MB / 4, _seconds(lambda: _read(payload, size // 4)), "MB")
        download = _seconds(lambda: _download(web))
    table = Table(
        f"A file in a CAR of {size >> 20} MiB, over HTTP with {LATENCY_MS} ms of latency",
        ("carfs", "download"),
    )
    table.begin()
    for version, (seconds, sent) in first.items():
        table.row(f"CARv{version}: registered to first byte", seconds_text(seconds), seconds_text(download))
        table.row(f"CARv{version}: bytes fetched for it", f"{sent / MB:.1f} MB", f"{size / MB:.0f} MB")
    table.row("its payload, read through the mount", sequential, None)


@contextmanager
def _home(folder: Path) -> Iterator[Path]:
    before = dict(os.environ)
    os.environ |= {"CARFS_PATH": str(folder / "home"), "CARFS_MOUNTS_ALLOW_PRIVATE": "true"}
    try:
        yield folder
    finally:
        os.environ.clear()
        os.environ |= before


@contextmanager
def _agent() -> Iterator[None]:
    command = [sys.executable, "-m", "agent.cli.main", "agent"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "ready:" in line:
                break
        yield
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


def _tree() -> tuple[Cid, list[tuple[Cid, bytes]]]:
    sink = Sink()
    builder = Builder(sink)
    root = builder.directory([(b"small", builder.file([CONTENT]))])
    builder.flush()
    return root.cid, sink.blocks


def _first_byte(web: Web, mountpoint: Path, version: int) -> tuple[float, int]:
    """Seconds from registering, and bytes that the server has sent."""
    before = sum(request["sent"] for request in web.requests())
    begun = time.perf_counter()
    url = web.url(f"v{version}.car", f"delay={LATENCY_MS}")
    Client(timeout_s=600).call("Carfs.RegisterShard", {"Key": f"v{version}", "URL": url, "Wait": True})
    path = mountpoint / "shards" / f"v{version}" / "root" / "small"
    while not path.exists():
        time.sleep(0.002)
    assert path.read_bytes() == CONTENT
    seconds = time.perf_counter() - begun
    return seconds, sum(request["sent"] for request in web.requests()) - before


def _download(web: Web) -> None:
    with urllib.request.urlopen(web.url("v2.car", f"delay={LATENCY_MS}")) as response:
        while response.read(1 << 20):
            pass


def _read(path: Path, size: int) -> None:
    with path.open("rb", buffering=0) as file:
        while size > 0:
            size -= len(file.read(1 << 20))


def _seconds(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
