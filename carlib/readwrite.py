"""A CAR that is written and read at the same time, and survives interruption: go-car's ReadWrite blockstore.

Life of a CARv2: pragma, 40 zero bytes and the CARv1 header; sections as they are put, each by one write; at the end
the index, and the real header last of all.  Until then the file does not claim to be final, and may be resumed:

    fresh ──► open ──put──► open ──finalise: index, fsync, header, fsync──► final ──open again──► open
                │ kill, at any byte                                            (header without index first, then cut)
                └──► scanned, cut back to the last whole verified section ──► open

Source: go-car v2 ``blockstore.OpenReadWrite``; the files are interchangeable both ways.  Unlike there a torn tail is
cut off instead of being refused or, worse, taken, and nothing is changed before everything was checked.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from carlib import durable, multihash
from carlib.cid import Cid
from carlib.errors import BlockNotFound, CarError, LimitExceeded, Malformed
from carlib.header import PRAGMA, V2_HEADER_BYTES, V1Header, V2Header
from carlib.index import write
from carlib.indexing import SortedRuns
from carlib.limits import MAX_BLOCK_BYTES, MAX_CID_BYTES
from carlib.options import DEFAULT, WriteOptions
from carlib.resumption import Resumed, examine
from carlib.section import HEAD_BYTES, encode_head, read_head
from carlib.source import FileSource


class Finalised(CarError):
    """Nothing can be put into a CAR that was finalised, discarded or closed."""


class ReadWriteBlockstore:
    """:class:`~carlib.blockstore.Blocks` that grow; a context manager that discards unless :meth:`finalise` was called.

    What :meth:`put` has answered for survives a kill of the process at any time; :meth:`sync` makes it survive a
    power cut. One writer at a time (flock), any number of threads.
    """

    def __init__(
        self, path: Path, fd: int, roots: tuple[Cid, ...], options: WriteOptions, resumed: Resumed
    ) -> None:
        """Over a locked file that is ready for puts; use :meth:`open`."""
        self.path = path
        self.roots = roots
        self.options = options
        self.dropped_bytes = resumed.dropped_bytes
        """Bytes of a torn tail that were cut off when the file was resumed."""
        self._fd = fd
        self._end = resumed.end
        self._offsets: dict[bytes, int] = {}
        self._sections: list[tuple[Cid, int]] = []
        self._lock = threading.Lock()
        self._finished = False
        for cid, offset in resumed.sections:
            self._note(cid, offset)

    @classmethod
    def open(
        cls, path: Path, roots: Sequence[Cid], options: WriteOptions = DEFAULT, *, salvage: bool = False
    ) -> Self:
        """A new CAR at ``path``, or the one there continued.

        Raises Malformed where version, roots (as a set) or data padding are not those of the file, HashMismatch or
        Malformed where it is damaged before its end (``salvage`` cuts it there), BlockingIOError where another
        writer has it; the file is then as it was.  OSError.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BlockingIOError(error.errno, "another writer has this CAR open", str(path)) from None
            fresh = _beginning(roots, options)
            with FileSource(path) as source:
                resumed = examine(source, fresh, tuple(roots), options.version, options.base, salvage=salvage)
            if resumed.is_fresh:
                os.ftruncate(fd, 0)
                os.pwrite(fd, fresh, 0)
                durable.sync_folder(path.parent)
            else:
                _reopen(fd, resumed, options)
            return cls(path, fd, tuple(roots), options, resumed)
        except BaseException:
            os.close(fd)
            raise

    def put(self, cid: Cid, data: bytes | memoryview, *, verified: bool = False) -> bool:
        """Append the block unless it is there; whether it was appended.

        ``verified`` says that the caller has checked the hash, which is checked here otherwise.  Raises HashMismatch,
        UnknownHash, LimitExceeded, Finalised, OSError (no space, for instance): then nothing was appended.
        """
        if cid.is_identity and not self.options.identity:
            return False
        if len(cid.raw) > MAX_CID_BYTES:
            raise LimitExceeded("CID length", len(cid.raw), MAX_CID_BYTES)
        if len(data) > MAX_BLOCK_BYTES:
            raise LimitExceeded("block length", len(data), MAX_BLOCK_BYTES)
        if not verified:
            multihash.check(cid, data)
        head = encode_head(cid.raw, len(data))
        with self._lock:
            self._check_open()
            if not self.options.allow_duplicates and self.options.key(cid) in self._offsets:
                return False
            self._append(head, data)
            self._note(cid, self._end - len(head) - len(data))
        return True

    def get(self, cid: Cid) -> bytes:
        """The block, verified."""
        if cid.is_identity and self.options.key(cid) not in self._offsets:
            return cid.digest
        offset, size = self._locate(cid)
        data = os.pread(self._fd, size, offset)
        try:
            multihash.check(cid, data)
        except CarError as error:
            raise error.located(source=str(self.path)) from None
        return data

    def has(self, cid: Cid) -> bool:
        return self.options.key(cid) in self._offsets or (cid.is_identity and not self.options.identity)

    def size(self, cid: Cid) -> int:
        return len(cid.digest) if cid.is_identity else self._locate(cid)[1]

    def cids(self) -> Iterator[Cid]:
        """Every block put so far, in file order, duplicates too."""
        return iter([cid for cid, _ in self._sections])

    def sync(self) -> None:
        """Make everything put so far survive a power cut."""
        os.fdatasync(self._fd)

    def finalise(self) -> None:
        """Write index and header and make the file durable; reading goes on, putting does not.  Raises Finalised,
        OSError.

        Killed or failing anywhere in between, the file is not final and can be resumed with every block.
        """
        with self._lock:
            self._check_open()
            try:
                if self.options.version == 2:
                    self._write_index()
                    os.fsync(self._fd)
                    header = self.options.header(self._end - self.options.base)
                    os.pwrite(self._fd, header.encode(), len(PRAGMA))
                os.fsync(self._fd)
                durable.sync_folder(self.path.parent)
            except BaseException as error:
                self._take_back()
                if isinstance(error, OSError) and error.filename is None:
                    error.filename = str(self.path)
                raise
            self._finished = True

    def discard(self) -> None:
        """Close without finalising: the file stays as it is and can be resumed.  Idempotent."""
        with self._lock:
            self._finished = True
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    close = discard

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _note(self, cid: Cid, offset: int) -> None:
        self._offsets.setdefault(self.options.key(cid), offset)
        self._sections.append((cid, offset))

    def _append(self, head: bytes, data: bytes | memoryview) -> None:
        length = len(head) + len(data)
        try:
            written = os.pwritev(self._fd, [head, data], self._end)
            if written != length:
                rest = (head + bytes(data))[written:]
                while rest:
                    count = os.pwrite(self._fd, rest, self._end + length - len(rest))
                    rest = rest[count:]
        except BaseException as error:
            os.ftruncate(self._fd, self._end)
            if isinstance(error, OSError):
                error.filename = str(self.path)
            raise
        self._end += length

    def _locate(self, cid: Cid) -> tuple[int, int]:
        """Offset and size of the data."""
        start = self._offsets.get(self.options.key(cid))
        if start is None:
            raise BlockNotFound(cid, source=str(self.path))
        piece = os.pread(self._fd, HEAD_BYTES, start)
        head = read_head(piece, 0, len(piece))
        if head is None:
            raise Malformed("section of length zero", source=str(self.path), offset=start)
        return start + head.data, head.end - head.data

    def _write_index(self) -> None:
        """Behind the data."""
        codec = self.options.index_codec
        if codec is None:
            return
        with (
            os.fdopen(os.dup(self._fd), "r+b") as out,
            SortedRuns(self.path.parent, codec) as runs,
        ):
            for cid, offset in self._sections:
                runs.add_one(cid.hash_code, cid.digest, offset - self.options.base)
            out.seek(self._end)
            out.write(bytes(self.options.index_padding))
            write(out, codec, runs.buckets())

    def _take_back(self) -> None:
        """What :meth:`finalise` wrote before it failed: puts may go on, and the file must not say that it is final."""
        if self.options.version == 2:
            os.pwrite(self._fd, bytes(V2_HEADER_BYTES), len(PRAGMA))
        os.ftruncate(self._fd, self._end)

    def _check_open(self) -> None:
        if self._finished:
            raise Finalised("this CAR was finalised or closed, nothing can be put", source=str(self.path))


def _beginning(roots: Sequence[Cid], options: WriteOptions) -> bytes:
    """The bytes of a CAR that nothing was put into."""
    header = V1Header(tuple(roots)).encode()
    if options.version == 1:
        return header
    return PRAGMA + bytes(options.base - len(PRAGMA)) + header


def _reopen(fd: int, resumed: Resumed, options: WriteOptions) -> None:
    """Take back what makes the file final, in an order that leaves a whole CAR at every moment, then cut the tail
    off."""
    if resumed.is_final:
        bare = V2Header(options.base, resumed.end - options.base)
        os.pwrite(fd, bare.encode(), len(PRAGMA))
        os.fsync(fd)
    os.ftruncate(fd, resumed.end)
    os.fsync(fd)
    if resumed.is_final:
        os.pwrite(fd, bytes(len(bare.encode())), len(PRAGMA))
