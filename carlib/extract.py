"""Files and directories out of a CAR into a file system, whatever the CAR says.

Nothing is written outside of the destination: names come from :func:`carlib.names.shown`, every step goes through the
descriptor of a directory that was opened without following symlinks, and a file appears under its name only when it is
whole.  What cannot be had (a missing or corrupt block, a name that is taken) is reported by path, and the rest is
extracted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from carlib import unixfs
from carlib.blockstore import Blocks
from carlib.cid import RAW, Cid
from carlib.descent import Descent
from carlib.durable import TEMPORARY_PREFIX
from carlib.errors import CarError, LimitExceeded, Malformed
from carlib.multihash import hashing_threads
from carlib.names import shown
from carlib.unixfs import Directory, Entry, File, Kind, Stat, leaf_payload
from carlib.unixfs.file import Leaf
from carlib.unixfs.node import fetch
from carlib.varint import Buffer

Progress = Callable[[int, int], None]
"""Takes bytes done and bytes in all, 0 where that is not known."""

MAX_FOLDER_DEPTH: Final = 4096
"""Directories inside of one another: more than any path names, so all that can be packed, and not without end."""
MAX_ENTRIES: Final = 50_000_000
"""Files, directories and symlinks of one extraction: a few blocks can describe a tree without end."""
PERMISSIONS: Final = 0o777
"""What is restored of a mode: never set-user-id, set-group-id or sticky, as a CAR comes from anybody."""

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OF_THE_NAME: Final = frozenset(
    {
        errno.EEXIST,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENOTEMPTY,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,
        errno.EILSEQ,
        errno.EFBIG,
        errno.EOVERFLOW,
    }
)
"""Errors of one entry; others (no space, no permission, I/O) end the extraction."""
_PROGRESS_BYTES: Final = 1 << 20


class ExtractionLimit(LimitExceeded):
    """More than one extraction may write: what the caller allowed, or :data:`MAX_ENTRIES`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What was not extracted, or not as a whole: ``path`` below the destination, as shown, and why."""

    path: bytes
    error: CarError | OSError

    def __str__(self) -> str:
        why = self.error.strerror if isinstance(self.error, OSError) else str(self.error)
        return f"{os.fsdecode(self.path) or '.'}: {why}"


@dataclass(frozen=True, slots=True)
class ExtractReport:
    """What was extracted; complete if there are no ``problems``."""

    path: Path
    files: int
    directories: int
    symlinks: int
    bytes: int
    problems: tuple[Problem, ...]

    @property
    def is_complete(self) -> bool:
        return not self.problems


def extract(
    blocks: Blocks,
    root: Cid,
    dest: Path,
    *,
    progress: Progress | None = None,
    tell: Callable[[bytes], object] | None = None,
    max_bytes: int | None = None,
) -> ExtractReport:
    """Extract what ``root`` is to ``dest``; ``tell`` is given each path below there when it was written or entered.

    A directory's entries go into ``dest``, which is made if need be.  Anything else becomes ``dest``, or is put into it
    under its CID if ``dest`` is a directory.  Files and symlinks that are there are replaced, directories are filled.
    Raises ExtractionLimit past ``max_bytes`` of files, the CarError of a ``root`` that cannot be read, and OSError for
    what is wrong with the destination as a whole.
    """
    found = unixfs.stat(blocks, root)
    silent: Callable[..., None] = lambda *_: None  # noqa: E731
    extractor = _Extractor(blocks, progress or silent, tell or silent, max_bytes)
    with contextlib.closing(extractor):
        path = _extract(extractor, root, dest, found, tell)
    return extractor.report(path)


def _extract(
    extractor: _Extractor, root: Cid, dest: Path, found: Stat, tell: Callable[[bytes], object] | None
) -> Path:
    """Where it went."""
    path = dest
    if found.kind is Kind.DIRECTORY:
        if dest.is_dir():
            found = Stat(Kind.DIRECTORY, 0)  # the caller's directory keeps its attributes
        dest.mkdir(parents=True, exist_ok=True)
        # The destination is the caller's own and may be a symlink; only what lies below it is not trusted.
        extractor.fill(os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), root, found)
    else:
        path = dest / str(root) if dest.is_dir() else dest
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            name = os.fsencode(path.name)
            if extractor.put(folder, name, name, root, found) and tell is not None:
                tell(b"")
        finally:
            os.close(folder)
    return path


@dataclass(slots=True)
class _Folder:
    """A directory being filled: what it is, and what is left to do."""

    found: Stat
    entries: Iterator[Entry]


class _Extractor:
    """One walk over a tree in a CAR, parents first."""

    def __init__(
        self, blocks: Blocks, progress: Progress, tell: Callable[[bytes], object], max_bytes: int | None
    ) -> None:
        self.files = self.directories = self.symlinks = self.bytes = 0
        self.problems: list[Problem] = []
        self._blocks = blocks
        self._progress = progress
        self._tell = tell
        self._max_bytes = max_bytes
        self._reported = 0
        self._suffix = secrets.token_hex(8)
        self._pool: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """Wait for threads that still read."""
        if self._pool is not None:
            self._pool.shutdown()

    def fill(self, fd: int, root: Cid, found: Stat) -> None:
        """Extract the directory ``root`` into the one open at ``fd``, which is closed."""
        folders: list[_Folder] = []
        with contextlib.closing(Descent(fd)) as descent:
            self._enter(folders, b"", found, self._entries(descent, root))
            while folders:
                entry = next(folders[-1].entries, None)
                if entry is not None:
                    self._extract(folders, descent, entry)
                else:
                    _leave(descent, folders.pop().found)

    def put(self, folder: int, name: bytes, path: bytes, cid: Cid, found: Stat) -> bool:
        """Extract one file or symlink as ``name`` in the directory open at ``folder``; whether it was: what goes wrong
        is a problem."""
        temporary = f"{TEMPORARY_PREFIX}{self._suffix}".encode()
        try:
            try:
                if found.kind is Kind.SYMLINK:
                    self._put_symlink(folder, temporary, found)
                else:
                    self._put_file(folder, temporary, cid, found)
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                _remove(temporary, folder)
                raise
        except ExtractionLimit:
            raise
        except (CarError, OSError) as error:
            self._problem(path, error)
            return False
        if found.kind is Kind.SYMLINK:
            self.symlinks += 1
        else:
            self.files += 1
        return True

    def report(self, path: Path) -> ExtractReport:
        """What was done, of all that ``path`` now is."""
        counts = (self.files, self.directories, self.symlinks, self.bytes)
        return ExtractReport(path, *counts, tuple(self.problems))

    def _extract(self, folders: list[_Folder], descent: Descent, entry: Entry) -> None:
        name = shown(entry.name)
        path = descent.below(name)
        count = self.files + self.directories + self.symlinks + len(self.problems)
        if count >= MAX_ENTRIES:
            raise ExtractionLimit("number of entries", count + 1, MAX_ENTRIES)
        try:
            found = unixfs.stat(self._blocks, entry.cid)
            if found.kind is Kind.DIRECTORY:
                if len(folders) == MAX_FOLDER_DEPTH:
                    raise LimitExceeded("depth of directories", len(folders) + 1, MAX_FOLDER_DEPTH)
                entries = self._entries(descent, entry.cid)
                descent.down(name)
                self._enter(folders, path, found, entries)
                return
        except (CarError, OSError) as error:
            self._problem(path, error)
            return
        if self.put(descent.fd, name, path, entry.cid, found):
            self._tell(path)

    def _entries(self, descent: Descent, cid: Cid) -> Iterator[Entry]:
        """Of the directory ``cid``; what cannot be had of them is a problem of the folder that ``descent`` is in."""
        return Directory.open(self._blocks, cid).entries(lambda error: self._problem(descent.path, error))

    def _enter(self, folders: list[_Folder], path: bytes, found: Stat, entries: Iterator[Entry]) -> None:
        self.directories += 1
        if path:
            self._tell(path)
        folders.append(_Folder(found, entries))

    def _put_file(self, folder: int, name: bytes, cid: Cid, found: Stat) -> None:
        fd = os.open(name, _NEW_FILE, 0o666, dir_fd=folder)
        try:
            for payload in self._payloads(cid):
                self._count(len(payload))
                while payload:
                    payload = payload[os.write(fd, payload) :]
            _restore(fd, found)
        finally:
            os.close(fd)

    def _payloads(self, cid: Cid) -> Iterator[memoryview]:
        """The bytes of the file ``cid``; of several blocks some are read and verified ahead, in threads."""
        if cid.codec == RAW:
            yield memoryview(fetch(self._blocks, cid))
            return
        leaves = File.open(self._blocks, cid).leaves()
        first, second = next(leaves, None), next(leaves, None)
        if first is None:
            return
        if second is None:
            yield leaf_payload(first.cid, fetch(self._blocks, first.cid), first)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(hashing_threads(), "carfs-extract")
        waiting: deque[tuple[Leaf, Future[Buffer]]] = deque()
        try:
            for leaf in chain((first, second), leaves):
                waiting.append((leaf, self._pool.submit(fetch, self._blocks, leaf.cid)))
                if len(waiting) > hashing_threads():
                    leaf, future = waiting.popleft()
                    yield leaf_payload(leaf.cid, future.result(), leaf)
            for leaf, future in waiting:
                yield leaf_payload(leaf.cid, future.result(), leaf)
        finally:
            for _, future in waiting:
                future.cancel()

    def _put_symlink(self, folder: int, name: bytes, found: Stat) -> None:
        target = found.target or b""
        if not target or b"\0" in target:
            raise Malformed(f"symlink to {target!r}, which no file system can hold")
        os.symlink(target, name, dir_fd=folder)
        if found.mtime_ns is not None:
            times = (found.mtime_ns, found.mtime_ns)
            os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False)

    def _count(self, size: int) -> None:
        self.bytes += size
        if self._max_bytes is not None and self.bytes > self._max_bytes:
            raise ExtractionLimit("size of all files", self.bytes, self._max_bytes)
        if self.bytes - self._reported >= _PROGRESS_BYTES:
            self._reported = self.bytes
            self._progress(self.bytes, 0)

    def _problem(self, path: bytes, error: CarError | OSError) -> None:
        if isinstance(error, OSError) and error.errno not in _OF_THE_NAME:
            if error.filename is None:
                error.filename = os.fsdecode(path)
            raise error
        self.problems.append(Problem(path, error))


def _leave(descent: Descent, found: Stat) -> None:
    """Go up, and only then restore what the folder is: it may forbid to."""
    fd = descent.up()
    try:
        _restore(fd, found)
    finally:
        os.close(fd)


def _remove(name: bytes, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass


def _restore(fd: int, found: Stat) -> None:
    """Give the file or directory open at ``fd`` the permissions and the time that are stored, where any are."""
    if found.mode is not None:
        os.fchmod(fd, found.mode & PERMISSIONS)
    if found.mtime_ns is not None:
        os.utime(fd, ns=(found.mtime_ns, found.mtime_ns))
