"""The directory `$CARFS_PATH/dagstore/transients/`: a sparse data file and its map for each shard.

Names tell the shard and the fingerprint by their digests, so that any key is a name, two keys never share one, and new
data never takes the place of old ones under a reader. The map is made last and removed first: a data file without one
is a leftover. All of this may block: call it in a thread.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent.dagstore.chunk_map import CHUNK_BYTES, MapDamaged, MapHead, MapWriter, bytes_present
from agent.dagstore.mounts import Fingerprint
from carlib import durable

_OUR_NAME = re.compile(r"([a-z2-7]{52})\.([0-9a-f]{16})\.(data|map)")


@dataclass(frozen=True, slots=True)
class Names:
    """The files of one transient."""

    directory: Path
    stem: str  # of the shard
    tag: str  # of the fingerprint

    @classmethod
    def of(cls, directory: Path, key: str, fingerprint: Fingerprint) -> Names:
        return cls(directory, stem_of(key), digest_of(fingerprint).hex()[:16])

    @property
    def data(self) -> Path:
        return self.directory / f"{self.stem}.{self.tag}.data"

    @property
    def map(self) -> Path:
        return self.directory / f"{self.stem}.{self.tag}.map"


def stem_of(key: str) -> str:
    """What the names of a shard's files begin with: lower-case base32 of the sha2-256 of its key."""
    return base64.b32encode(hashlib.sha256(key.encode()).digest()).decode().rstrip("=").lower()


def digest_of(fingerprint: Fingerprint) -> bytes:
    """sha2-256 of all that is known of the data."""
    return hashlib.sha256(msgspec.json.encode(fingerprint)).digest()


@dataclass(eq=False, slots=True)
class Opened:
    """Files open for writing."""

    data_fd: int
    map: MapWriter

    @property
    def present_bytes(self) -> int:
        return bytes_present(self.map.head, self.map.present)

    @property
    def vanished(self) -> bool:
        """Whether somebody else has removed one of the files: nobody can open them any more."""
        return not (os.fstat(self.data_fd).st_nlink and self.map.links)

    def close(self) -> None:
        """Idempotent."""
        fd, self.data_fd = self.data_fd, -1
        if fd >= 0:
            os.close(fd)
        self.map.close()


def open_kept(names: Names, fingerprint: Fingerprint, boot: bytes) -> Opened | None:
    """What is there, as far as it can be believed; None if that is nothing. Raises OSError."""
    try:
        data_fd = os.open(names.data, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        opened = Opened(data_fd, MapWriter.open(names.map, boot))
    except (FileNotFoundError, MapDamaged):
        os.close(data_fd)
        return None
    head = opened.map.head
    if (
        os.fstat(data_fd).st_size == head.size == fingerprint.size
        and head.chunk_bytes == CHUNK_BYTES
        and head.fingerprint == digest_of(fingerprint)
    ):
        return opened
    opened.close()
    return None


def create(names: Names, fingerprint: Fingerprint, boot: bytes, *, whole: bool) -> Opened:
    """A transient without any data in it, on disk, in the place of what was there; raises OSError."""
    names.directory.mkdir(parents=True, exist_ok=True)  # somebody may have removed all of them at once
    remove(names)
    fd = os.open(names.data, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.ftruncate(fd, fingerprint.size)
        os.fsync(fd)
        head = MapHead(fingerprint.size, CHUNK_BYTES, digest_of(fingerprint), boot, whole)
        return Opened(fd, MapWriter.create(names.map, head))
    except BaseException:
        os.close(fd)
        names.data.unlink(missing_ok=True)
        raise


def write(opened: Opened, offset: int, data: bytes | bytearray, first: int, stop: int) -> None:
    """Puts `data` at `offset`, then says that the chunks from `first` to `stop` are there; raises OSError."""
    view = memoryview(data)
    while view:
        count = os.pwrite(opened.data_fd, view, offset)
        view, offset = view[count:], offset + count
    opened.map.set(first, stop)


def remove(names: Names) -> None:
    """Removes both files, if they are there; raises OSError."""
    names.map.unlink(missing_ok=True)
    names.data.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Found:
    """A transient that was there at the start."""

    names: Names
    present_bytes: int
    used_ns: int  # when it was last used, as the times of its files have it


def scan(directory: Path, is_wanted: Callable[[str], bool]) -> tuple[list[Found], int]:
    """The transients that are there, and how many leftovers were removed: what is not whole, or whose stem is not
    wanted. Only files with our own names are looked at. Raises OSError."""
    ours: dict[tuple[str, str], set[str]] = {}
    removed = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            match = _OUR_NAME.fullmatch(entry.name)
            if match is not None and entry.is_file(follow_symlinks=False):
                ours.setdefault((match[1], match[2]), set()).add(match[3])
            elif entry.name.startswith(durable.TEMPORARY_PREFIX) and entry.is_file(follow_symlinks=False):
                Path(entry.path).unlink(missing_ok=True)  # a map that was being made
                removed += 1
    found = []
    for (stem, tag), kinds in ours.items():
        names = Names(directory, stem, tag)
        one = _found(names) if is_wanted(stem) and len(kinds) == 2 else None
        if one is None:
            remove(names)
            removed += 1
        else:
            found.append(one)
    return found, removed


def _found(names: Names) -> Found | None:
    """A look at a map as it stands; what of it is believed is seen when it is opened."""
    try:
        data = names.map.read_bytes()
        head = MapHead.parse(data)
        status = names.map.stat()
    except (MapDamaged, OSError):
        return None
    bits = data[-2 * head.half_bytes : -head.half_bytes] if head.half_bytes else b""
    if len(data) != head.file_bytes:
        return None
    return Found(names, bytes_present(head, bits), max(status.st_mtime_ns, status.st_atime_ns))


def touch(names: Names) -> None:
    """Notes for the next start that it was used now; raises OSError."""
    os.utime(names.map)
