"""What of a source cannot be read: gathered while it is packed, told at the end as one list.

Called by ``carlib.packer``.  Whoever packs a million files wants to hear of all that are wrong at once, and not after
hours of hashing: from the first one on further files are only opened.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NOT_THE_SOURCE: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)
"""Errors that are about us, whatever file they came with."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in the source that is not in the CAR."""

    path: Path
    reason: str


class Unreadable(OSError):
    """Some of the source cannot be read, or was gone when its turn came; ``files`` has all of that.

    ``errno`` and ``filename`` are those of the first.
    """

    def __init__(self, first: OSError, files: Sequence[Skipped]) -> None:
        super().__init__(first.errno, first.strerror, first.filename)
        self.files = tuple(files)

    def __str__(self) -> str:
        more = f" (and {len(self.files) - 1} more)" if len(self.files) > 1 else ""
        return f"{super().__str__()}{more}"


class Missed:
    """Gathers for one walk."""

    def __init__(self, skip: bool) -> None:
        """``skip``: whether what cannot be read is left out; else it fails the walk, at its end."""
        self.skip = skip
        self._first: OSError | None = None
        self._files: list[Skipped] = []

    def __bool__(self) -> bool:
        """Whether the walk is lost, and goes on for the list only."""
        return self._first is not None

    def add(self, path: bytes, error: OSError) -> Skipped:
        """``path`` could not be read; ``error`` itself is raised where it is not about that."""
        if error.errno in _NOT_THE_SOURCE or not _is_at(path, error.filename):
            raise error
        missed = Skipped(Path(os.fsdecode(path)), f"cannot be read ({error.strerror})")
        if not self.skip:
            self._first = self._first or error
            self._files.append(missed)
        return missed

    def check(self) -> None:
        """Raise Unreadable if anything is to be told."""
        if self._first is not None:
            raise Unreadable(self._first, self._files) from self._first


def _is_at(path: bytes, filename: str | bytes | None) -> bool:
    """Whether an error about ``filename`` is one of ``path``, or of what a symlink there leads to."""
    if filename is None:
        return False
    return os.fsencode(filename) in (path, os.path.basename(path), os.path.realpath(path))  # noqa: PTH119
