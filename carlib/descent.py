"""Folders inside of one another, gone down and up by descriptors: no path, so none is too long, and no symlink in it.

Called by ``carlib.extract``.  Few of the folders are open at once: the way back to one that was closed is ``..`` of the
one below it, and is believed only if it leads to the same directory.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import Final

OPEN_FOLDERS: Final = 64
"""The innermost ones, which are open; a process has 1,024 descriptors as a rule."""

_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_Identity = tuple[int, int]
"""Device and inode."""


class Descent:
    """The way from a folder down to the one that is worked in; ``path`` is the names between, joined."""

    def __init__(self, top: int) -> None:
        """Begins in the folder open at ``top``, which is closed with the others."""
        self.path = b""
        self._names: list[bytes] = []
        self._closed: list[_Identity] = []  # the outermost ones
        self._open = deque((top,))

    @property
    def fd(self) -> int:
        """Of the folder that is worked in."""
        return self._open[-1]

    def below(self, name: bytes) -> bytes:
        """The path of what is called ``name`` in it."""
        return self.path + b"/" + name if self.path else name

    def down(self, name: bytes) -> None:
        """Go into the directory ``name``, which is made if it is not there; OSError, and nowhere, if something else
        is."""
        try:
            os.mkdir(name, 0o777, dir_fd=self.fd)
        except FileExistsError:
            pass
        self._open.append(os.open(name, _OPEN_FOLDER, dir_fd=self.fd))
        self.path = self.below(name)
        self._names.append(name)
        if len(self._open) > OPEN_FOLDERS:
            outermost = self._open.popleft()
            self._closed.append(_identity(outermost))
            os.close(outermost)

    def up(self) -> int:
        """Go to the folder around; the descriptor of the one that was left, which is the caller's to close.

        Out of the first folder it leads nowhere.  Raises OSError, and goes nowhere, where that was moved to another
        folder meanwhile.
        """
        if len(self._open) == 1 and self._closed:
            self._open.appendleft(self._parent())
            self._closed.pop()
        if self._names:
            name = self._names.pop()
            self.path = self.path[: max(0, len(self.path) - len(name) - 1)]
        return self._open.pop()

    def close(self) -> None:
        """Let go of all folders."""
        while self._open:
            os.close(self._open.pop())

    def _parent(self) -> int:
        parent = os.open("..", _OPEN_FOLDER, dir_fd=self.fd)
        if _identity(parent) != self._closed[-1]:
            os.close(parent)
            raise OSError(errno.ESTALE, "was moved while it was written to", os.fsdecode(self.path))
        return parent


def _identity(fd: int) -> _Identity:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
