"""Programs that run while they are measured: started, waited for, asked for their memory, ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

CARFS = str(Path(sys.executable).with_name("carfs"))
PATIENCE_S = 300
POLL_S = 0.01


@contextmanager
def running(
    command: Sequence[str], ready: Callable[[], bool], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """The process, once `ready` holds; it gets SIGTERM at the end of the block."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not come up (exit code {process.poll()})")
            time.sleep(POLL_S)
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@contextmanager
def mounted(
    command: Sequence[str], mountpoint: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Likewise for one that mounts at `mountpoint` and stays in the foreground."""
    mountpoint.mkdir(parents=True, exist_ok=True)
    try:
        with running([*command, str(mountpoint)], mountpoint.is_mount, environment) as process:
            yield process
    finally:
        if mountpoint.is_mount():
            subprocess.run(["fusermount3", "-uz", str(mountpoint)], check=False)


def agent_answers(environment: Mapping[str, str]) -> bool:
    """Whether the agent of this environment does."""
    return (
        subprocess.run([CARFS, "status"], env=environment, capture_output=True, check=False).returncode == 0
    )


def resident_bytes(pid: int) -> tuple[int, int]:
    """Resident memory of a process: all of it, and the part that is not page cache (RssAnon)."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024, int(fields["RssAnon"].split()[0]) * 1024


def drop_caches(*files: Path) -> str:
    """Makes the next read cold: the kernel's caches where root may say so, else the pages of `files`; says which."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError:
        for file in files:
            with file.open("rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return "pages of the files dropped"
    return "all caches dropped"
