"""The other programs that tests compare with: found where `make peers` puts them, never installed by a test.

A test that needs one that is absent skips and says so.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bench import peers
from tests.bench.processes import running
from tests.fixtures import REPOSITORY
from tests.wires import free_port

FOLDER = Path(os.environ.get("CARFS_PEERS") or REPOSITORY / ".bench")
_TIMEOUT_S = 120


def program(name: str) -> Path:
    """The program of that name among `tests.bench.peers.PROGRAMS`; skips the calling test where it is absent."""
    path: Path | None = getattr(peers.found(FOLDER), name)
    if path is None:
        pytest.skip(f"no {name} below {FOLDER} (make peers)")
    return path


def run(command: Sequence[str | Path], **environment: str) -> str:
    """What `command` prints; fails the test with what it says where it fails."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_TIMEOUT_S,
        env=os.environ | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode()


class Kubo:
    """`ipfs` with a repository of its own and no network."""

    def __init__(self, folder: Path) -> None:
        """An empty repository in `folder`."""
        self._program = program("kubo")
        self._environment = {"IPFS_PATH": str(folder), "IPFS_TELEMETRY": "off"}
        self("init", "--empty-repo", "--profile=test,autoconf-off")

    def __call__(self, *arguments: str | Path) -> str:
        return run([self._program, *arguments, "--offline"], **self._environment).strip()

    @contextmanager
    def daemon(self) -> Iterator[str]:
        """The address of its API, while it answers there, and nowhere else."""
        addresses = {"API": f"/ip4/127.0.0.1/tcp/{free_port()}", "Gateway": [], "Swarm": []}
        for key, value in addresses.items():
            self("config", "--json", f"Addresses.{key}", json.dumps(value))
        environment = os.environ | self._environment

        def answers() -> bool:
            asked = [str(self._program), "--api", str(addresses["API"]), "id"]
            return subprocess.run(asked, env=environment, capture_output=True, check=False).returncode == 0

        with running([str(self._program), "daemon", "--offline"], answers, environment):
            yield str(addresses["API"])

    def at(self, api: str, *arguments: str) -> bytes:
        """What the client prints of what the API at an address answers."""
        done = subprocess.run(
            [self._program, "--api", api, *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False,
            timeout=_TIMEOUT_S, env=os.environ | self._environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def export(self, root: str, out: Path) -> None:
        """What `ipfs dag export` gives for `root`, into `out`."""
        command: list[str | Path] = [self._program, "dag", "export", "--offline", "--progress=false", root]
        with out.open("wb") as file:
            subprocess.run(
                command, stdout=file, check=True, timeout=_TIMEOUT_S, env=os.environ | self._environment
            )

    def add(self, path: Path, *options: str) -> str:
        """The root CID that `ipfs add` gives for `path`.

        Blocks are stored: with `--only-hash`, directories that have a mode or mtime are an error (0.43).
        """
        return self("add", "-Q", "--pin=false", *options, path)
