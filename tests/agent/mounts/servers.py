"""Server processes on loopback for tests of remote mounts."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obstore.store import S3Store

from tests.agent.processes import until
from tests.fixtures import REPOSITORY
from tests.wires import free_port

if TYPE_CHECKING:
    from obstore.store import S3Config  # not there at run time


@dataclass(frozen=True)
class Web:
    """A `web_server` that runs."""

    folder: Path
    log: Path
    port: int
    scheme: str = "http"

    def url(self, name: str, faults: str = "") -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/{name}" + (f"?{faults}" if faults else "")

    def requests(self) -> list[dict[str, Any]]:  # Any: JSON
        """What it was asked, and how many bytes of each body it has sent; those under way are not in it yet."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def web_server(folder: Path, *, certificate: Path | None = None) -> Iterator[Web]:
    """Serves `folder / "served"`; `certificate` holds a key too."""
    served, log = folder / "served", folder / "requests.log"
    served.mkdir()
    log.touch()
    arguments = [str(served), str(log), *([str(certificate)] if certificate else [])]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.agent.mounts.web_server", *arguments],
        cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        yield Web(served, log, port, "https" if certificate else "http")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@dataclass(frozen=True)
class S3:
    """A moto server that runs, with one bucket."""

    endpoint: str
    bucket: str

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def store(self) -> S3Store:
        """To put objects there."""
        config: S3Config = {"endpoint": self.endpoint, "region": "us-east-1"}
        keys: S3Config = {"access_key_id": "test", "secret_access_key": "test"}
        return S3Store(self.bucket, config=config | keys, client_options={"allow_http": True})


@contextmanager
def s3_server(folder: Path) -> Iterator[S3]:
    """moto's server with an empty bucket."""
    port = free_port()
    program = Path(sys.executable).with_name("moto_server")
    with (folder / "moto.log").open("w") as log:
        process = subprocess.Popen(
            [program, "-H", "127.0.0.1", "-p", str(port)],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        until(lambda: "Running on" in (folder / "moto.log").read_text())
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("PUT", "/test-bucket")
        assert connection.getresponse().status == 200
        connection.close()
        yield S3(f"http://127.0.0.1:{port}", "test-bucket")
    finally:
        process.kill()
        process.wait()
