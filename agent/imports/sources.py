"""What a path is that somebody wants to import; may block, so it is called in a thread."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from carlib.container import read_v1_header
from carlib.errors import CarError
from carlib.header import PRAGMA
from carlib.source import FileSource


@dataclass(frozen=True, slots=True)
class Found:
    """A file or a directory that can be read."""

    path: Path  # without symlinks
    is_folder: bool
    size: int  # bytes; 0 of a folder, which nobody has gone through yet
    is_car: bool  # by its first bytes


def look(path: Path) -> Found:
    """Raises ShardError(gone | denied | invalid | …)."""
    try:
        real = Path(os.path.realpath(path, strict=True))
        found = real.stat()
        if stat.S_ISDIR(found.st_mode):
            with os.scandir(real) as entries:
                next(entries, None)
            return Found(real, True, 0, False)
        if not stat.S_ISREG(found.st_mode):
            raise ShardError(ErrorClass.INVALID, f"{path} is neither a file nor a directory")
        with FileSource(real) as source:
            return Found(real, False, found.st_size, looks_like_car(source))
    except OSError as error:
        raise ShardError(class_of_os_error(error), f"{path}: {error.strerror}") from error


def looks_like_car(source: FileSource) -> bool:
    """Whether it begins as a CAR does; one that is damaged further on is one all the same."""
    if source.peek(0, len(PRAGMA)) == PRAGMA:
        return True
    try:
        read_v1_header(source, 0)
    except CarError:
        return False
    return True
