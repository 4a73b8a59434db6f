"""Real mounts for tests: a process that is always ended, a mountpoint that is always freed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from carlib.cid import Cid
from carlib.options import WriteOptions
from carlib.writer import creating
from fusefs import mounting
from tests.fixtures import REPOSITORY

_STOP_S = 20.0


@dataclass
class Mounted:
    """A mount that answers; `lines` is what its process has said so far."""

    path: Path
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def log(self) -> str:
        return "".join(self.lines)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends the signal and gives the exit code."""
        self.process.send_signal(number)
        return self.process.wait(_STOP_S)


@contextmanager
def mounted(
    mountpoint: Path, *cars: Path, arguments: Sequence[str] = (), module: str = "fusefs"
) -> Iterator[Mounted]:
    """`carfs mount -f` of `cars` (none: the agent of $CARFS_PATH) in a process of its own; `module` may mount
    in its place.
    """
    mountpoint.mkdir(exist_ok=True)
    command = [
        sys.executable,
        "-m",
        module,
        *(["-f"] if module == "fusefs" else []),
        *arguments,
        *map(str, cars),
        str(mountpoint),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    mount = Mounted(mountpoint, process)
    reader = threading.Thread(target=_read_lines, args=(mount, ready := threading.Event()))
    reader.start()
    try:
        ready.wait(60)
        assert process.poll() is None, f"the mount ended with {process.returncode}: {mount.log()}"
        yield mount
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if mounting.mounted_at(mountpoint) is not None:
            mounting.unmount(mountpoint, lazy=True)
        reader.join()
        assert process.stderr is not None
        process.stderr.close()


def _read_lines(mount: Mounted, ready: threading.Event) -> None:
    assert mount.process.stderr is not None
    for line in mount.process.stderr:
        mount.lines.append(line)
        if "mounted on" in line:
            ready.set()
    ready.set()


def write_car(
    path: Path, blocks: Sequence[tuple[Cid, bytes]], roots: Sequence[Cid], *, version: int = 2
) -> Path:
    """A CAR of these blocks, whether they match their CIDs or not."""
    with creating(path, WriteOptions(version=version), roots=tuple(roots)) as writer:
        for cid, data in blocks:
            writer.put(cid, data)
        writer.finish(roots)
    return path


def contents(folder: Path) -> dict[str, bytes | str | None]:
    """Everything below a folder: file → bytes, symlink → target, directory → None."""
    found: dict[str, bytes | str | None] = {}
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where) / name
            key = str(path.relative_to(folder))
            found[key] = (
                str(path.readlink()) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
            )
    return found


def names_in(folder: Path) -> list[str]:
    """A listing, in the order in which the mount gives it."""
    return [path.name for path in folder.iterdir()]
