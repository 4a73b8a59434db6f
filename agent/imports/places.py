"""Where the files of imports are, and which of them are ours to remove: those of our names in our folders (C-4)."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from agent.imports.records import ImportRow

_OURS = re.compile(r"([0-9]{1,20})\.(car|idx|clones)")
_STAGED = re.compile(r"import-([0-9]{1,20})")


@dataclass(frozen=True, slots=True)
class Places:
    """The folders; `directory` holds what is complete, `staging` what is on its way."""

    directory: Path
    staging: Path

    def car(self, number: int) -> Path:
        return self.directory / f"{number}.car"

    def index(self, number: int) -> Path:
        return self.directory / f"{number}.idx"

    def clones(self, number: int) -> Path:
        """Clones of the user's files that a frozen import refers to."""
        return self.directory / f"{number}.clones"

    def staged(self, number: int) -> Path:
        """The folder in which one is made; whatever is in it goes with it."""
        return self.staging / f"import-{number}"

    def upload(self, number: int) -> Path:
        """The source of one that was taken over, or the FIFO of one that is a stream."""
        return self.staged(number) / "upload"

    def is_staged(self, path: Path) -> bool:
        """Whether it was put where we take things over from."""
        real = os.path.realpath(path)
        return real.startswith(os.path.realpath(self.staging) + os.sep)

    def discard(self, row: ImportRow) -> None:
        """Removes what is ours of an import that nobody knows any more; raises OSError."""
        if row.owns_car:
            self.car(row.id).unlink(missing_ok=True)
        self.index(row.id).unlink(missing_ok=True)
        self.discard_clones(row.id)
        self.discard_staged(row.id)

    def discard_staged(self, number: int) -> None:
        """Removes what was on its way; raises OSError."""
        _remove_folder(self.staged(number))

    def discard_clones(self, number: int) -> None:
        _remove_folder(self.clones(number))

    def sweep(self, known: Container[int], *, staged: Container[int]) -> list[Path]:
        """Removes what a kill has left: files of our names without an import, and what was on its way but for those
        in `staged`; gives what it removed. Raises OSError."""
        found = []
        for folder, name, kept in ((self.directory, _OURS, known), (self.staging, _STAGED, staged)):
            for path in sorted(folder.iterdir()):
                match = name.fullmatch(path.name)
                if match is not None and int(match[1]) not in kept:
                    found.append(path)
                    _remove_folder(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return found


def _remove_folder(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
