"""The unit files that come with carfs: what they are, and where they go on a machine. Pure but for reading them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = "systemd"
PROGRAM: Final = "/usr/local/bin/carfs"
"""As the files have it; replaced by where carfs is."""
AGENT: Final = "carfs-agent.service"
SOCKET: Final = "carfs-agent.socket"
_PLACES: Final = {"": "systemd/system", "sysusers.d": "sysusers.d", "tmpfiles.d": "tmpfiles.d"}


class NoUnits(Exception):
    """This installation has no unit files."""


@dataclass(frozen=True, slots=True)
class UnitFile:
    """One of them: where it goes, below /etc, and what is in it."""

    place: str
    text: str

    def below(self, root: Path) -> Path:
        return root / "etc" / self.place

    def is_in(self, root: Path) -> bool | None:
        """Whether it is there as it is here; None: there is none."""
        try:
            return self.below(root).read_text() == self.text
        except (FileNotFoundError, NotADirectoryError):
            return None


def source() -> Path:
    """Where the files are: in the checkout, or with the installed data. Raises NoUnits."""
    for folder in (Path(__file__).parents[1] / FOLDER, Path(sys.prefix) / "share/carfs" / FOLDER):
        if (folder / AGENT).is_file():
            return folder
    raise NoUnits(f"there are no unit files with this installation (they would be in {folder})")


def unit_files(program: Path) -> list[UnitFile]:
    """All of them, for a carfs that is at `program`, an absolute path. Raises NoUnits, OSError."""
    return sorted(_found(source(), program), key=lambda one: one.place)


def _found(folder: Path, program: Path) -> Iterator[UnitFile]:
    for below, place in _PLACES.items():
        for path in (folder / below).iterdir():
            if path.is_file():
                yield UnitFile(f"{place}/{path.name}", path.read_text().replace(PROGRAM, str(program)))
