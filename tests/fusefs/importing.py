"""A mount of an agent that imports, and what is done in it from a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.client import Client
from tests.fusefs.mounts import Mounted, mounted
from tests.fusefs.test_mount_agent import running_agent

Json = Any  # any value that JSON can carry


@dataclass
class World:
    """A mount and its agent; both always ended."""

    mount: Mounted
    agent: subprocess.Popen[str]
    folder: Path

    @property
    def imports(self) -> Path:
        return self.mount.path / "imports"

    @property
    def shards(self) -> Path:
        return self.mount.path / "shards"

    def names(self) -> list[str]:
        return sorted(path.name for path in self.imports.iterdir())

    def state(self, name: str) -> str:
        return str(self.document(name)["State"])

    def document(self, name: str) -> Json:
        return json.loads((self.imports / name / "import.json").read_text())


@contextmanager
def world(tmp_path: Path, *, settle_s: float = 0, arguments: tuple[str, ...] = ()) -> Iterator[World]:
    options = ("--settle", str(settle_s), *arguments)
    with running_agent() as agent, mounted(tmp_path / "mnt", arguments=options) as mount:
        yield World(mount, agent, tmp_path)


def sh(command: str, folder: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A line of shell, run in `folder`, in English."""
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, text=True, capture_output=True, check=check, timeout=120,
        env=os.environ | {"LC_ALL": "C", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip


def staged() -> list[str]:
    """What is in the staging folder."""
    folder = Path(os.environ["CARFS_PATH"]) / "staging"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []


def rpc_names() -> list[str]:
    """The imports that the agent has."""
    return sorted(record["Name"] for record in Client().call("Carfs.Imports", {}))
