"""The index directory `$CARFS_PATH/dagstore/index/`: one file a shard and generation, and a folder for what is being
made. An index is made in a folder of its own below `building/` and renamed into place when it is complete and on disk,
so whatever lies below `building/` when no worker runs, and every index that no record names, is an orphan.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path

logger = logging.getLogger(__name__)

FORMAT = 1  # of what `IndexFacts` says and how the file is made; indices of another one are made anew

_BUILDING = "building"
_PIECE_BYTES = 1 << 20
_OUR_NAME = re.compile(r"[a-z2-7]{52}\.[0-9]{1,20}\.idx")


def file_name(key: str, generation: int, registered: str = "") -> str:
    """The name of an index file: lower-case base32 of the sha2-256 of the key (keys may hold `/` or `..`, be
    long, or differ in case only) and of when it was registered, and the generation: so no index is ever replaced under
    a reader or a record, nor taken away while that of a shard that was destroyed before still goes."""
    digest = hashlib.sha256(f"{key}\0{registered}".encode() if registered else key.encode()).digest()
    return f"{base64.b32encode(digest).decode().rstrip('=').lower()}.{generation}.idx"


def generation_of(name: str) -> int:
    """The generation in a name that `file_name` gave."""
    return int(name.split(".")[1])


def scratch(directory: Path, name: str) -> Path:
    """The folder in which the index `name` is made."""
    return directory / _BUILDING / name


def sizes(directory: Path) -> dict[str, int]:
    """The complete index files that are there, with their sizes in bytes."""
    with os.scandir(directory) as entries:
        return {
            entry.name: entry.stat(follow_symlinks=False).st_size
            for entry in entries
            if _OUR_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
        }


def sweep(directory: Path, wanted: Collection[str]) -> int:
    """Removes our index files that are not `wanted`, and what cut-short work left; gives how many.

    For the start, before any work. Files that do not carry our names stay: they are somebody else's.
    """
    building = directory / _BUILDING
    leftovers = sum(1 for _ in building.iterdir()) if building.is_dir() else 0
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(exist_ok=True)
    orphans = [name for name in sizes(directory) if name not in wanted]
    for name in orphans:
        (directory / name).unlink(missing_ok=True)
    if leftovers or orphans:
        logger.info("removed %d unfinished and %d unwanted index files", leftovers, len(orphans))
    return leftovers + len(orphans)


def discard(directory: Path, name: str) -> bool:
    """Removes one index that nobody wants (any more), and what was there of it; gives whether it is gone. What cannot
    be removed is left for the next `sweep`."""
    shutil.rmtree(scratch(directory, name), ignore_errors=True)
    try:
        (directory / name).unlink(missing_ok=True)
    except OSError as error:
        logger.warning("cannot remove the old index %s: %s", directory / name, error.strerror)
        return False
    return True


def checksum(path: Path) -> str:
    """What `IndexFacts.checksum` is of that file: the first 128 bits of its SHA-256, in hex (2 GB/s). Raises
    OSError."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()[:32]


def damage(path: Path, due: str) -> str:
    """How an index file is not the one of that checksum, for people; empty if it is. Reads all of it; raises
    OSError."""
    try:
        found = checksum(path)
    except FileNotFoundError:
        return "its index file is missing"
    return "" if found == due else f"its index file is damaged: checksum {found}, not {due}"
