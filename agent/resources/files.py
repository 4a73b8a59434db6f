"""Where limits are read from: the files of the kernel, or what a test gives in their place.

All that `agent.resources` learns of the machine goes through a `Files`, so that a captured machine is a dictionary.
"""

from __future__ import annotations

import os
from typing import Protocol

_CHUNK_BYTES = 1 << 16


class Files(Protocol):
    """Reads below /proc and /sys; paths are absolute. No method waits for anything but the kernel."""

    def read(self, path: str) -> str:
        """All of a file; bytes that are no UTF-8 as lone surrogates. Raises OSError."""

    def exists(self, path: str) -> bool:
        """Whether there is a file or a folder of that name, and it may be seen."""

    def folders(self, path: str) -> list[str]:
        """The names of the folders in a folder. Raises OSError."""

    def __hash__(self) -> int:
        """As an object: what was found out with slow looks is remembered by it."""


class MachineFiles:
    """The machine's own, or those below another root."""

    def __init__(self, root: str = "/") -> None:
        self._prefix = root.rstrip("/")

    def read(self, path: str) -> str:
        # os.open and os.read: a third of the time of open(), and this is done some fifty times before each admission
        descriptor = os.open(self._prefix + path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = os.read(descriptor, _CHUNK_BYTES)
            while more := os.read(descriptor, _CHUNK_BYTES):  # procfs gives a page at a time
                content += more
        finally:
            os.close(descriptor)
        return content.decode("utf-8", "surrogateescape")

    def exists(self, path: str) -> bool:
        return os.access(self._prefix + path, os.F_OK)

    def folders(self, path: str) -> list[str]:
        with os.scandir(self._prefix + path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
