"""One walk over files and directories of the file system, children first, into the blocks of a builder.

Called by ``carlib.pack`` and ``carlib.references``.  What of the source is packed is up to the builder's profile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Flag
from pathlib import Path
from typing import Final, Protocol

from carlib import writer
from carlib.cid import Cid
from carlib.durable import TEMPORARY_PREFIX
from carlib.errors import CarError
from carlib.limits import KIB, MIB
from carlib.listing import Folder, OpenedFolder, identity_of, kind_of
from carlib.source import Buffers
from carlib.unixfs import chunking
from carlib.unixfs.builder import Builder
from carlib.unixfs.hashing import Built
from carlib.unixfs.links import Links
from carlib.unixfs.profile import Symlinks
from carlib.unreadable import Missed, Skipped
from carlib.warming import Warming

Progress = Callable[[int, int], None]
"""Takes bytes done and bytes in all, 0 where that is not known."""

_READINGS: Final = 3
"""Of a file that changes while it is read."""
_PROGRESS_BYTES: Final = MIB
_CONFIRM_BYTES: Final = 64 * KIB
"""Asked for where the end is believed to be."""
_PAGE_BYTES: Final = 4096
_SMALL_FILE: Final = 64 * KIB
"""Files that are read at once."""
_OPEN_FILE: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_SPECIAL: Final = {
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "FIFO",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


class Preserve(Flag):
    """What is stored of a file's attributes, which changes CIDs."""

    NOTHING = 0
    MODE = 1
    MTIME = 2
    ALL = 3


class SourceChanged(CarError):
    """A file was written to while it was read, each of three times: pack it when it rests."""


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


class RootOfOtherLength(Exception):
    """A root, inlined, is not as long as the room for it; see :func:`carlib.pack.rooted`."""

    def __init__(self, root: Cid) -> None:
        self.root = root


class Watcher(Protocol):
    """Is told what is read of which file, in the order in which leaves are put."""

    def chunk(self, path: bytes, size: int) -> None:
        """The next ``size`` bytes of ``path`` were read."""

    def file(self, path: bytes, found: os.stat_result) -> None:
        """``path`` is read from its beginning (again, if it changed meanwhile)."""

    def abandon(self, path: bytes) -> None:
        """``path`` could not be read (to its end); all leaves that will come of anything read so far have been put."""


class Packer:
    """One walk over a source, children first, into the sink of ``builder``."""

    def __init__(
        self,
        builder: Builder,
        out: Path,
        progress: Progress | None = None,
        *,
        preserve: Preserve = Preserve.NOTHING,
        watcher: Watcher | None = None,
        buffers: Buffers | None = None,
        skip_unreadable: bool = False,
    ) -> None:
        """``out`` is the CAR being written, which is not packed where it lies in the source.  ``buffers``, of a chunk
        each, are what the builder gives back.  ``skip_unreadable``: leave out and report what cannot be read."""
        self.files = self.directories = self.symlinks = self.bytes = 0
        self.skipped: list[Skipped] = []
        self._missed = Missed(skip_unreadable)
        self._builder = builder
        self._progress = progress or (lambda _done, _total: None)
        self._watcher = watcher
        self._profile = builder.profile
        self._mode = bool(preserve & Preserve.MODE)
        self._mtime = bool(preserve & Preserve.MTIME)
        self._tiny_at_once = (
            not preserve
            and watcher is None
            and builder.profile.chunker is None
            and builder.profile.chunk_size >= _PAGE_BYTES
        )
        self._warming = Warming(builder.profile.hidden)
        self._buffers = buffers if builder.profile.chunker is None else None
        self._total = 0
        self._reported = 0
        out = Path(os.path.realpath(out))  # where it is written, if there is a symlink in its place
        self._out_name = os.fsencode(out.name)
        self._out_folder = identity_of(out.parent.stat())
        self._out_identity = identity_of(out.stat()) if out.exists() else None

    def pack(self, source: Path, room: Cid | None = None) -> Cid:
        """Everything below ``source``; its root, when every block was put.

        With ``room`` it must be as long as that: to be called within :func:`rooted`.
        """
        with contextlib.closing(self._warming):
            return self._rooted(self._pack(os.fsencode(source)), room)

    def pack_wrapped(self, sources: Sequence[Path], room: Cid | None = None) -> Cid:
        """A directory of all ``sources`` under their last names, else like :meth:`pack`; ValueError for two of one."""
        built: dict[bytes, Built] = {}
        with contextlib.closing(self._warming):
            for source in sources:
                name = _last_name(source)
                if not name or name in built:
                    raise ValueError(
                        f"{source} has no name" if not name else f"two sources are called {source.name}"
                    )
                built[name] = self._pack(os.fsencode(source))
        links = Links()
        for name in sorted(built):
            links.add(name, built[name])
        self.directories += 1
        return self._rooted(self._builder.directory(links), room)

    def _rooted(self, built: Built, room: Cid | None) -> Cid:
        self._missed.check()
        self._builder.flush()
        root = built.cid
        if room is not None and len(root.raw) != len(room.raw):
            raise RootOfOtherLength(root)
        return root

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
            if identity_of(found) == self._out_identity:
                raise ValueError(
                    f"{os.fsdecode(source)} would be replaced by the CAR of it; write to another file"
                )
            self._total = found.st_size
            return self._pack_file(os.path.realpath(source))
        if not stat.S_ISDIR(found.st_mode):
            raise ValueError(f"{os.fsdecode(source)} is a {_SPECIAL[stat.S_IFMT(found.st_mode)]}")
        folders = [self._enter(source, b"", found)]
        while True:
            entered = self._pack_entries(folders)
            if entered is not None:
                folders.append(entered)
                continue
            folder = folders.pop()
            if folders and not folder.links and not self._profile.empty_directories:
                continue
            built = self._builder.directory(folder.links, **folder.attributes)
            self.directories += 1
            if not folders:
                return built
            folders[-1].links.add(folder.name, built)

    def _pack_entries(self, folders: list[Folder]) -> Folder | None:
        """Pack the entries of the last of ``folders`` up to its next directory, which is entered; None at the end."""
        folder = folders[-1]
        prefix = os.path.join(folder.path, b"")  # noqa: PTH118
        with OpenedFolder(folder.path) as opened:
            while folder.listing:
                name, _, kind_digits = folder.listing.pop().partition(b"\0")
                kind, path, found = int(kind_digits), prefix + name, None
                if kind == stat.S_IFLNK and self._profile.symlinks is Symlinks.FOLLOW:
                    found = self._follow(path, folders)
                    if found is None:
                        continue
                    kind = stat.S_IFMT(found.st_mode)
                try:
                    if kind == stat.S_IFDIR:
                        return self._enter(path, name, found or os.lstat(path))
                    if kind == stat.S_IFREG:
                        self._warming.step((each.path, each.listing) for each in folders)
                        real = (
                            (path, name, opened.fd) if found is None else (os.path.realpath(path), None, None)
                        )
                        folder.links.add(name, self._pack_file(*real))
                    elif kind != stat.S_IFLNK:
                        self._skip(path, f"is a {_SPECIAL.get(kind, 'special file')}")
                    elif self._profile.symlinks is Symlinks.KEEP:
                        folder.links.add(name, self._pack_symlink(path))
                    else:
                        self._skip(path, "is a symlink")
                except OSError as error:
                    self._leave(path, error)
        return None

    def _leave(self, path: bytes, error: OSError) -> None:
        """What is at ``path`` cannot be read."""
        missed = self._missed.add(path, error)
        if self._missed.skip:
            self.skipped.append(missed)
            self._builder.flush()
            if self._watcher is not None:
                self._watcher.abandon(path)

    def _follow(self, path: bytes, folders: list[Folder]) -> os.stat_result | None:
        """What the symlink at ``path`` leads to; None, and it is left out, where that is nothing or has no end."""
        try:
            found = os.stat(path)  # noqa: PTH116
        except OSError as error:
            self._skip(path, f"is a symlink to nothing ({error.strerror})")
            return None
        if identity_of(found) in (folder.identity for folder in folders):
            self._skip(path, "is a symlink to a folder that it is in")
            return None
        return found

    def _enter(self, path: bytes, name: bytes, found: os.stat_result) -> Folder:
        identity = identity_of(found)
        own, hidden = identity == self._out_folder, self._profile.hidden
        listing: list[bytes] = []
        with os.scandir(path) as entries:
            for entry in entries:
                if own and entry.name.startswith(TEMPORARY_PREFIX.encode()):
                    continue  # our own output on its way
                if own and entry.name == self._out_name:
                    self._skip(entry.path, "is the CAR being written")
                elif hidden or not entry.name.startswith(b"."):
                    listing.append(b"%b\0%d" % (entry.name, kind_of(entry)))
        listing.sort(reverse=True)
        return Folder(path, name, identity, self._attributes(found), listing)

    def _pack_file(self, path: bytes, name: bytes | None = None, folder: int | None = None) -> Built:
        """The file at ``path``, or ``name`` in the folder that is open; read anew if it changed meanwhile."""
        for _ in range(_READINGS):
            try:
                fd = os.open(name or path, _OPEN_FILE, dir_fd=folder)
            except OSError as error:
                error.filename = os.fsdecode(path)
                raise
            try:
                if self._missed:
                    return self._builder.file(())
                built = self._tiny_file(fd, path) if self._tiny_at_once else None
                if built is None:
                    built = self._whole_file(fd, path)
            finally:
                os.close(fd)
            if built is not None:
                self.files += 1
                self.bytes += built.size
                self._report(self.bytes)
                return built
        raise SourceChanged(f"changed while it was read, {_READINGS} times", source=os.fsdecode(path))

    def _tiny_file(self, fd: int, path: bytes) -> Built | None:
        """A file of less than a page, as one read finds it: nobody could have seen more of it at one time, so nobody is
        asked whether it changed.  None, and back at its beginning, for a larger one."""
        data = self._read(fd, path, _PAGE_BYTES)
        if not data:
            _check_regular(os.fstat(fd), path)
        if len(data) < _PAGE_BYTES and not self._read(fd, path, 1):
            return self._builder.file((data,) if data else ())
        os.lseek(fd, 0, os.SEEK_SET)
        return None

    def _whole_file(self, fd: int, path: bytes) -> Built | None:
        """None if it changed meanwhile."""
        profile = self._profile
        before = os.fstat(fd)
        _check_regular(before, path)
        if self._watcher is not None:
            self._watcher.file(path, before)
        chunks: Iterable[bytes] = self._chunks(fd, path, before.st_size)
        if before.st_size < _SMALL_FILE and profile.chunker is None and before.st_size < profile.chunk_size:
            chunks = self._only_chunk(fd, path, before.st_size)
        built = self._builder.file(chunks, **self._attributes(before))
        after = os.fstat(fd)
        is_same = built.size == before.st_size == after.st_size and before.st_mtime_ns == after.st_mtime_ns
        return built if is_same else None

    def _read(self, fd: int, path: bytes, size: int) -> bytes:
        try:
            return os.read(fd, size)
        except OSError as error:
            error.filename = os.fsdecode(path)
            raise

    def _only_chunk(self, fd: int, path: bytes, expected: int) -> tuple[bytes, ...]:
        """The file in one read: had it grown or shrunk meanwhile, its size would tell."""
        data = self._read(fd, path, expected + 1)
        if data and self._watcher is not None:
            self._watcher.chunk(path, len(data))
        return (data,) if data else ()

    def _chunks(self, fd: int, path: bytes, expected: int) -> Iterator[bytes]:
        """The file as the profile cuts it.

        ``expected`` bytes and one are asked for first: a buffer of a whole chunk costs more than reading a small file.
        """
        profile, start, left = self._profile, self.bytes, expected

        def read(size: int) -> bytes:
            nonlocal left
            data = os.read(fd, min(size, left + 1 if left > 0 else _CONFIRM_BYTES))
            left -= len(data)
            return data

        if self._buffers is not None and expected >= _SMALL_FILE:
            chunks = self._buffered(fd, self._buffers)
        elif profile.chunker is None:
            chunks = chunking.fixed(read, profile.chunk_size)
        else:
            chunks = chunking.by_content(read, profile.chunker)
        try:
            done = 0
            for chunk in chunks:
                if self._watcher is not None:
                    self._watcher.chunk(path, len(chunk))
                yield chunk
                done += len(chunk)
                self._report(start + done)
        except OSError as error:
            error.filename = os.fsdecode(path)
            raise

    def _buffered(self, fd: int, buffers: Buffers) -> Iterator[bytes]:
        """Like :func:`chunking.fixed`, in memory that is used again once the builder gave it back."""
        at_end = False
        while not at_end:
            whole, done = buffers.take(), 0
            while done < buffers.size and not at_end:
                count = os.readv(fd, [whole[done:]])
                done += count
                at_end = not count
            if done:
                yield whole[:done]  # type: ignore[misc]  # read as bytes are, and kept by nobody
            else:
                buffers.give_back(whole)

    def _pack_symlink(self, path: bytes) -> Built:
        attributes = self._attributes(os.lstat(path))
        attributes.pop("mode", None)  # a symlink's is always 0777, and kubo stores none
        self.symlinks += 1
        return self._builder.symlink(os.readlink(path), **attributes)  # noqa: PTH115

    def _attributes(self, found: os.stat_result) -> dict[str, int]:
        attributes = {}
        if self._mode:
            attributes["mode"] = stat.S_IMODE(found.st_mode)
        if self._mtime:
            attributes["mtime_ns"] = found.st_mtime_ns
        return attributes

    def _skip(self, path: bytes, reason: str) -> None:
        self.skipped.append(Skipped(Path(os.fsdecode(path)), reason))

    def _report(self, done: int) -> None:
        if done - self._reported >= _PROGRESS_BYTES:
            self._reported = done
            self._progress(done, self._total)


def _check_regular(found: os.stat_result, path: bytes) -> None:
    """OSError for what was a file when its folder was listed."""
    if not stat.S_ISREG(found.st_mode):
        kind = _SPECIAL.get(stat.S_IFMT(found.st_mode), "special file")
        raise OSError(errno.EINVAL, f"is a {kind} now", os.fsdecode(path))


def _last_name(source: Path) -> bytes:
    """Also of ``.`` and ``..``, those that they have in their folders."""
    return os.path.basename(os.path.abspath(os.fsencode(source)))  # noqa: PTH100, PTH119
