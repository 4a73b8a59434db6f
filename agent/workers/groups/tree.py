"""The part of the machine that groups are made in: /proc and the mounted cgroup hierarchies.

`MachineTree` is the real one; a test brings its own. Paths are absolute. All methods raise OSError.
"""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Protocol

_ASK_S = 5.0  # a manager answers within some hundredths


class Tree(Protocol):
    """Files and folders that the kernel makes."""

    def read(self, path: str) -> str: ...

    def write(self, path: str, text: str) -> None:
        """One write(2), as the kernel wants it."""

    def make(self, path: str) -> None:
        """A new group."""

    def remove(self, path: str) -> None:
        """Removes an empty one."""

    def children(self, path: str) -> list[str]:
        """Names of the groups directly below."""

    def mark(self, path: str, name: str) -> str:
        """An extended attribute; "" where there is none."""

    def is_delegated(self, unit: str) -> bool:
        """Whether the manager of the user's own units says so of this one; False if it says nothing."""

    def kill(self, pid: int) -> None:
        """With SIGKILL."""


class MachineTree:
    """The kernel's own."""

    def read(self, path: str) -> str:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            chunks = []
            while chunk := os.read(descriptor, 65_536):
                chunks.append(chunk)
        finally:
            os.close(descriptor)
        return b"".join(chunks).decode(errors="surrogateescape")

    def write(self, path: str, text: str) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode(errors="surrogateescape"))
        finally:
            os.close(descriptor)

    def make(self, path: str) -> None:
        os.mkdir(path, 0o755)  # noqa: PTH102  as the other calls here: a string to the system and no more

    def remove(self, path: str) -> None:
        os.rmdir(path)  # noqa: PTH106

    def children(self, path: str) -> list[str]:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]

    def mark(self, path: str, name: str) -> str:
        try:
            return os.getxattr(path, name).decode(errors="replace")
        except OSError:  # not marked, not for us to see, or a kernel without
            return ""

    def is_delegated(self, unit: str) -> bool:
        command = ["systemctl", "--user", "show", "--property=Delegate", "--value", unit]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_ASK_S, check=False
            )
        except (OSError, subprocess.SubprocessError):
            return False
        return done.stdout.strip() == b"yes"

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
