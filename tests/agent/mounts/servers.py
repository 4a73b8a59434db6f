"""Server processes on loopback for tests of remote mounts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fixtures import REPOSITORY


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
