"""Groups of cgroup v1 that a test makes on this machine, and programs that run in them as agents."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from agent.resources.facts import Mode
from agent.workers.groups.place import NoPlace, find
from tests.agent.processes import until
from tests.fixtures import REPOSITORY


def why_no_v1() -> str:
    """Why no group of memory can be made here; "" where one can."""
    if os.geteuid() != 0:
        return "needs root, to make groups of cgroup v1"
    try:
        place = find(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    except (NoPlace, OSError) as error:
        return f"no cgroup v1 with memory: {error}"
    if place.mode is not Mode.V1:
        return "the memory controller is on cgroup v2 here: `make machine`'s tests hold what is held for v1"
    return "" if os.access(place.own.folder, os.W_OK) else f"{place.own.folder} cannot be written"


class Parent:
    """A group for a test's agents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        """Starts one of `programs` in the group."""
        enter = f'echo $$ > {self.folder}/cgroup.procs && exec "$@"'
        command = [sys.executable, "-m", "tests.agent.groups.programs", program, *arguments]
        return subprocess.Popen(
            ["/bin/sh", "-c", enter, "sh", *command],
            cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, program: str, *arguments: str) -> dict[str, Any]:
        """What it says, when it has ended well."""
        process = self.begin(program, *arguments)
        try:
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0
        said: dict[str, Any] = json.loads(output)
        return said

    def groups(self) -> list[str]:
        return [path.name for path in self.folder.iterdir() if path.is_dir()]

    def clear(self) -> None:
        """Ends what is in it and below, and removes it."""
        folders = sorted([self.folder, *(self.folder / name for name in self.groups())], reverse=True)

        def try_remove() -> bool:
            for folder in folders:
                if not folder.exists():
                    continue
                for pid in (folder / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
                try:
                    folder.rmdir()
                except OSError:
                    return False
            return True

        until(try_remove)


@contextmanager
def parent() -> Iterator[Parent]:
    """A group below the one that the tests run in."""
    place = find(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    made = Parent(Path(place.own.folder) / f"carfs-test-{uuid4().hex[:8]}")
    made.folder.mkdir()
    try:
        yield made
    finally:
        made.clear()
