"""The manifest: which segments make up the inverted index, as a file that is replaced and never changed.

    line 1   CRC-32 of line 2, eight hex digits
    line 2   the `Manifest` as JSON

A segment that the manifest does not name is a leftover of a crash, whatever is in it.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Final

import msgspec

from carlib import durable

logger = logging.getLogger(__name__)

VERSION: Final = 1
NAME: Final = "manifest"
SUFFIX: Final = ".segment"
MAX_BYTES: Final = 1 << 20


class Part(msgspec.Struct, frozen=True):
    """One segment."""

    name: str
    size: int  # of the file, bytes
    generation: int


class Manifest(msgspec.Struct, frozen=True):
    """All segments, and the number of the last change."""

    version: int = VERSION
    generation: int = 0
    parts: tuple[Part, ...] = ()


class Unreadable(Exception):
    """There is a manifest and it cannot be used: damaged, or of another version."""


def read(directory: Path) -> Manifest:
    """The manifest in `directory`; an empty one if there is none. Raises Unreadable."""
    try:
        with (directory / NAME).open("rb") as file:
            text = file.read(MAX_BYTES)
    except FileNotFoundError:
        return Manifest()
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror}") from error
    checksum, _, body = text.partition(b"\n")
    if checksum != _checksum(body):
        raise Unreadable("its checksum is wrong")
    try:
        found = msgspec.json.decode(body, type=Manifest)
    except msgspec.MsgspecError as error:
        raise Unreadable(str(error)) from error
    if found.version != VERSION:
        raise Unreadable(f"it is of version {found.version}, we write {VERSION}")
    if any(Path(part.name).name != part.name for part in found.parts):
        raise Unreadable("it names a file outside of its folder")
    return found


def write(directory: Path, manifest: Manifest) -> None:
    """Puts `manifest` in the place of the one before; it is on disk then. Raises OSError."""
    body = msgspec.json.encode(manifest)
    with durable.replacing(directory / NAME) as file:
        file.write(_checksum(body) + b"\n" + body)


def segment_name(generation: int) -> str:
    """The name of the segment that is made for this generation; none ever bears it again."""
    return f"{generation:012}{SUFFIX}"


def sweep(directory: Path, wanted: Collection[str]) -> int:
    """Removes our files that `wanted` does not name, and what cut-short writing left; gives how many.

    Only while nobody writes there.
    """
    removed = 0
    for path in directory.iterdir():
        ours = path.suffix == SUFFIX or path.name.startswith(durable.TEMPORARY_PREFIX)
        if ours and path.name not in wanted:
            try:
                path.unlink(missing_ok=True)
                removed += 1
            except OSError as error:
                logger.warning("cannot remove %s: %s", path, error.strerror)
    return removed


def _checksum(body: bytes) -> bytes:
    return b"%08x" % zlib.crc32(body)
