"""A file or a directory tree of the file system as an indexed CAR, in one pass over its data.

Everything below the source is packed, hidden files too (the profile unixfs-v1-2025 leaves them out: ``hidden=False``),
symlinks as they are, empty directories too; names in the order of their bytes.  The source itself may be a symlink,
which is followed.  Sockets, FIFOs and devices are left out and reported, and so is the CAR being written.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from carlib import writer
from carlib.cid import RAW, Cid
from carlib.durable import TEMPORARY_PREFIX
from carlib.errors import CarError
from carlib.limits import KIB, MIB
from carlib.options import WriteOptions
from carlib.unixfs.builder import Builder, Link
from carlib.unixfs.hashing import Built
from carlib.unixfs.profile import CARFS, Profile

Progress = Callable[[int, int], None]
"""Takes bytes done and bytes in all, 0 where that is not known."""

MAX_HASHING_THREADS: Final = 4
"""Reading and writing cannot feed more."""
_PROGRESS_BYTES: Final = MIB
_CONFIRM_BYTES: Final = 64 * KIB
"""Asked for where the end is believed to be."""
_SPECIAL: Final = {
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "FIFO",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


class SourceChanged(CarError):
    """A file was written to while it was read, twice over: pack it when it rests."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in the source that is not in the CAR."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class PackReport:
    """What was packed: ``bytes`` of files' data; ``blocks`` and ``block_bytes`` that were written, each block once."""

    root: Cid
    files: int
    directories: int
    symlinks: int
    bytes: int
    blocks: int
    block_bytes: int
    duplicates: int
    skipped: tuple[Skipped, ...]


def pack(
    source: Path,
    out: Path,
    *,
    profile: Profile = CARFS,
    progress: Progress | None = None,
    hidden: bool = True,
    preserve: bool = False,
    version: int = 2,
) -> PackReport:
    """Write ``source`` into a CAR at ``out``, which appears when it is complete.

    ``preserve`` stores permissions and modification times, which changes CIDs.  Raises OSError that names the file
    which could not be read, SourceChanged, ValueError for a source that is neither a file nor a directory.
    """
    threads = ThreadPoolExecutor(min(MAX_HASHING_THREADS, os.cpu_count() or 1), "carfs-hash")
    with threads, writer.creating(out, WriteOptions(version=version), roots=[root_like(profile)]) as car:
        builder = Builder(car, profile, threads)
        packer = Packer(builder, out, progress, hidden=hidden, preserve=preserve)
        root = packer.pack(source)
        car.finish([root])
    return packer.report(root, car)


def root_like(profile: Profile) -> Cid:
    """A CID as long as the root will be."""
    cid = Cid.of(b"", RAW, profile.hash_code)
    return cid if profile.cid_version else Cid(cid.multihash)


@dataclass(slots=True)
class _Folder:
    """A directory being packed: what is left of its listing, last name first, and the links so far."""

    path: bytes
    name: bytes
    attributes: dict[str, int]
    listing: list[tuple[bytes, int]]
    links: list[Link] = field(default_factory=list)


class Watcher(Protocol):
    """Is told what is read of which file, in the order in which leaves are put."""

    def chunk(self, path: bytes, size: int) -> None:
        """The next ``size`` bytes of ``path`` were read."""

    def file(self, path: bytes, found: os.stat_result) -> None:
        """``path`` is read from its beginning (again, if it changed meanwhile)."""


class Packer:
    """One walk over a source, children first, into the sink of ``builder``."""

    def __init__(
        self,
        builder: Builder,
        out: Path,
        progress: Progress | None = None,
        *,
        hidden: bool = True,
        preserve: bool = False,
        watcher: Watcher | None = None,
    ) -> None:
        """``out`` is the CAR being written, which is not packed where it lies in the source."""
        self.files = self.directories = self.symlinks = self.bytes = 0
        self.skipped: list[Skipped] = []
        self._builder = builder
        self._progress = progress or (lambda _done, _total: None)
        self._watcher = watcher
        self._hidden = hidden
        self._preserve = preserve
        self._total = 0
        self._reported = 0
        self._out_name = os.fsencode(out.name)
        self._out_folder = _identity(out.parent.stat())

    def pack(self, source: Path) -> Cid:
        """Everything below ``source``; its root, when every block was put."""
        root = self._pack(os.fsencode(source))
        self._builder.flush()
        return root.cid

    def report(self, root: Cid, car: writer.CarWriter) -> PackReport:
        """What was packed into ``car``."""
        return PackReport(
            root,
            self.files,
            self.directories,
            self.symlinks,
            self.bytes,
            car.blocks,
            car.data_bytes,
            car.duplicates,
            tuple(self.skipped),
        )

    def _pack(self, source: bytes) -> Built:
        found = os.stat(source)  # noqa: PTH116  names are bytes here
        if stat.S_ISREG(found.st_mode):
            self._total = found.st_size
            return self._pack_file(os.path.realpath(source))
        if not stat.S_ISDIR(found.st_mode):
            raise ValueError(f"{os.fsdecode(source)} is a {_SPECIAL[stat.S_IFMT(found.st_mode)]}")
        folders = [self._enter(source, b"", found)]
        while True:
            folder = folders[-1]
            entered = self._pack_entries(folder)
            if entered is not None:
                folders.append(entered)
                continue
            built = self._builder.directory(folder.links, **folder.attributes)
            self.directories += 1
            folders.pop()
            if not folders:
                return built
            folders[-1].links.append((folder.name, built))

    def _pack_entries(self, folder: _Folder) -> _Folder | None:
        """Pack the entries of ``folder`` up to its next directory, which is entered; None at the end."""
        while folder.listing:
            name, kind = folder.listing.pop()
            path = os.path.join(folder.path, name)  # noqa: PTH118
            if kind == stat.S_IFDIR:
                return self._enter(path, name, os.lstat(path))
            if kind == stat.S_IFREG:
                folder.links.append((name, self._pack_file(path)))
            elif kind == stat.S_IFLNK:
                folder.links.append((name, self._pack_symlink(path)))
            else:
                self._skip(path, f"is a {_SPECIAL.get(kind, 'special file')}")
        return None

    def _enter(self, path: bytes, name: bytes, found: os.stat_result) -> _Folder:
        own = _identity(found) == self._out_folder
        listing = []
        with os.scandir(path) as entries:
            for entry in entries:
                if own and entry.name.startswith(TEMPORARY_PREFIX.encode()):
                    continue  # our own output on its way
                if own and entry.name == self._out_name:
                    self._skip(entry.path, "is the CAR being written")
                elif self._hidden or not entry.name.startswith(b"."):
                    listing.append((entry.name, _kind(entry)))
        listing.sort(reverse=True)
        return _Folder(path, name, self._attributes(found), listing)

    def _pack_file(self, path: bytes) -> Built:
        """The file at ``path``, read anew once if it changed meanwhile."""
        for _ in range(2):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                before = os.fstat(fd)
                if self._watcher is not None:
                    self._watcher.file(path, before)
                built = self._builder.file(self._chunks(fd, path, before.st_size), **self._attributes(before))
                after = os.fstat(fd)
            finally:
                os.close(fd)
            if built.size == before.st_size == after.st_size and before.st_mtime_ns == after.st_mtime_ns:
                self.files += 1
                self.bytes += built.size
                self._report(self.bytes)
                return built
        raise SourceChanged("changed while it was read, twice", source=os.fsdecode(path))

    def _chunks(self, fd: int, path: bytes, expected: int) -> Iterator[bytes]:
        """The file in chunks of the profile's size; what the kernel gives short is filled up.

        ``expected`` bytes and one are asked for first: a buffer of a whole chunk costs more than reading a small file.
        """
        size, start = self._builder.profile.chunk_size, self.bytes
        done, at_end = 0, False
        try:
            while not at_end:
                chunk = os.read(fd, min(size, max(expected - done, 0) + 1))
                while len(chunk) < size and not at_end:
                    more = os.read(fd, min(size - len(chunk), _CONFIRM_BYTES))
                    chunk += more
                    at_end = not more
                if chunk:
                    if self._watcher is not None:
                        self._watcher.chunk(path, len(chunk))
                    yield chunk
                done += len(chunk)
                self._report(start + done)
        except OSError as error:
            error.filename = os.fsdecode(path)
            raise

    def _pack_symlink(self, path: bytes) -> Built:
        attributes = self._attributes(os.lstat(path))
        attributes.pop("mode", None)  # a symlink's is always 0777
        self.symlinks += 1
        return self._builder.symlink(os.readlink(path), **attributes)  # noqa: PTH115

    def _attributes(self, found: os.stat_result) -> dict[str, int]:
        if not self._preserve:
            return {}
        return {"mode": stat.S_IMODE(found.st_mode), "mtime_ns": found.st_mtime_ns}

    def _skip(self, path: bytes, reason: str) -> None:
        self.skipped.append(Skipped(Path(os.fsdecode(path)), reason))

    def _report(self, done: int) -> None:
        if done - self._reported >= _PROGRESS_BYTES:
            self._reported = done
            self._progress(done, self._total)


def _kind(entry: os.DirEntry[bytes]) -> int:
    """The file type of ``entry``, without a system call for all that is usual."""
    if entry.is_symlink():
        return stat.S_IFLNK
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    return stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
