"""How another process reads the data of a shard: a value that crosses the wire, and the source of bytes it stands for.

Every reader of shards goes through here: the mount, and the workers that index and verify. Reads are `pread`, never a
mapping. No trio: what has to be fetched first is asked for by a blocking call that the reader brings along.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import msgspec

from agent.dagstore.chunk_map import MapDamaged, MapReader
from agent.dagstore.sector_reads import READS, SectorSource
from carlib.limits import MIB
from carlib.patched import Patch, PatchedSource
from carlib.source import ByteSource, FileSource, exactly

Range = tuple[int, int]
"""Offset and length in bytes."""


class FileAccess(msgspec.Struct, frozen=True, tag_field="Kind", tag="file", rename="pascal"):
    """A file, used in place."""

    path: str


class SectorAccess(msgspec.Struct, frozen=True, tag_field="Kind", tag="sector", rename="pascal"):
    """A piece in an unsealed sector: from `offset` (padded bytes) of the file on, `size` bytes of payload."""

    path: str
    offset: int
    size: int


class TransientAccess(msgspec.Struct, frozen=True, tag_field="Kind", tag="transient", rename="pascal"):
    """A sparse file of `size` bytes and the map of what of it is there; the rest is asked for."""

    data: str
    map: str
    size: int


class RepairedAccess(msgspec.Struct, frozen=True, tag_field="Kind", tag="repaired", rename="pascal"):
    """Other data, some ranges of which are bad and are taken from a file of ours (`repairs`) instead."""

    base: FileAccess | SectorAccess | TransientAccess
    repairs: str
    patches: tuple[tuple[int, int, int], ...]  # offset in the data, size, offset in `repairs`


Access = FileAccess | SectorAccess | TransientAccess | RepairedAccess


class Fetch(Protocol):
    """Gets ranges of a transient from whoever fills it."""

    def ensure(self, offset: int, length: int) -> None:
        """Blocks until these bytes are there; raises OSError, or what its maker raises, where they cannot be had."""

    def renew(self, offset: int, length: int) -> None:
        """Likewise, but what is there of them is wrong: it is fetched once more."""

    def hint(self, ranges: Sequence[Range]) -> None:
        """These will be wanted soon; never blocks."""


@runtime_checkable
class RemoteSource(ByteSource, Protocol):
    """A source whose bytes come from elsewhere."""

    def renew(self, offset: int, length: int) -> None:
        """See `Fetch.renew`."""

    def hint(self, ranges: Sequence[Range]) -> None:
        """See `Fetch.hint`."""


def open_source(access: Access, ensure: Callable[[int, int], None] | Fetch) -> ByteSource:
    """The bytes behind `access`; `ensure(offset, length)` is called for what a transient lacks, and blocks until it is
    there. Raises OSError."""
    match access:
        case FileAccess(path):
            return FileSource(Path(path))
        case SectorAccess(path, offset, size):
            from carlib.piece.fr32 import unpadded_view  # 20 ms, for the few who have sectors

            READS.note_open()
            return unpadded_view(SectorSource(Path(path)), offset, size)
        case TransientAccess():
            return TransientSource(access, ensure if not callable(ensure) else _Only(ensure))
        case RepairedAccess(base, repairs, patches):
            return _repaired(open_source(base, ensure), Path(repairs), patches)


def _repaired(base: ByteSource, repairs: Path, patches: tuple[tuple[int, int, int], ...]) -> ByteSource:
    kind = _RepairedRemoteSource if isinstance(base, RemoteSource) else PatchedSource
    try:
        return kind(base, FileSource(repairs), [Patch(*patch) for patch in patches])
    except FileNotFoundError:
        return base  # what is bad is found to be bad, and all else can be read
    except BaseException:
        base.close()
        raise


class _RepairedRemoteSource(PatchedSource):
    """One whose base has its bytes from elsewhere."""

    def renew(self, offset: int, length: int) -> None:
        self._remote.renew(offset, length)

    def hint(self, ranges: Sequence[Range]) -> None:
        self._remote.hint(ranges)

    @property
    def _remote(self) -> RemoteSource:
        assert isinstance(self.base, RemoteSource)
        return self.base


def place_of(access: Access) -> str:
    """The file that is opened first, for messages."""
    if isinstance(access, RepairedAccess):
        access = access.base
    return access.data if isinstance(access, TransientAccess) else access.path


class _Only:
    """A `Fetch` that can do no more than get what is missing."""

    def __init__(self, ensure: Callable[[int, int], None]) -> None:
        self.ensure = ensure

    def renew(self, offset: int, length: int) -> None:
        self.ensure(offset, length)

    def hint(self, ranges: Sequence[Range]) -> None:
        pass


_ATTEMPTS: Final = 3
_STEP_BYTES: Final = 4 * MIB
_AHEAD_BYTES: Final = 12 * MIB
"""What a reader that has gone on for a while is given ahead, told every `_STEP_BYTES`, so that it need not wait."""
_NEAR_BYTES: Final = 4 * MIB
"""How far from the end of the last read one may begin and still go on from it: several threads read side by side."""


class _Files:
    """The two open files of a transient."""

    def __init__(self, access: TransientAccess) -> None:
        self.data = os.open(access.data, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.map = MapReader(Path(access.map))
        except MapDamaged as error:
            os.close(self.data)
            raise OSError(errno.EIO, str(error), access.map) from error
        except BaseException:
            os.close(self.data)
            raise

    def close(self) -> None:
        os.close(self.data)
        self.map.close()


class TransientSource:
    """A :class:`~carlib.source.ByteSource` over a transient.

    What is read was there from before the reading to after it: a chunk that is taken back meanwhile (because a block in
    it did not match) is read again when it is back.
    """

    def __init__(self, access: TransientAccess, fetch: Fetch) -> None:
        """Opens the files; raises OSError."""
        self.name = access.data
        self._access = access
        self._fetch = fetch
        self._lock = threading.Lock()
        self._files = _Files(access)
        self._all_files = [self._files]
        self._closed = False
        self._end = self._run = 0  # of the last read; how much was read on end
        if self._files.map.head.size != access.size:
            self.close()
            raise OSError(errno.ESTALE, "the transient is of other data", access.map)

    @property
    def size(self) -> int:
        return self._access.size

    def pread(self, offset: int, length: int) -> bytes:
        return exactly(self.peek(offset, length), length, self.name, offset)

    def peek(self, offset: int, length: int) -> bytes:
        """At most `length` bytes; waits until they are there. Raises OSError where they cannot be had."""
        length = max(0, min(length, self.size - offset))
        self._foresee(offset, offset + length)
        for _ in range(_ATTEMPTS):
            files = self._current()
            drops = files.map.drops()
            if not files.map.holds(offset, length):
                self._fetch.ensure(offset, length)
                if not files.map.holds(offset, length):
                    self._reopen(files)  # the transient was removed and made anew under us
                continue
            data = _whole(files.data, offset, length)
            if files.map.drops() == drops and len(data) == length:
                return data
        raise OSError(
            errno.EIO, f"bytes {offset} to {offset + length} were asked for and did not come", self.name
        )

    def peek_nowait(self, offset: int, length: int) -> bytearray | None:
        """Exactly these bytes if they are in the data file and in memory, else None; never waits for storage."""
        files = self._current()
        drops = files.map.drops()
        if offset + length > self.size or not files.map.holds(offset, length):
            return None
        data = bytearray(length)
        try:
            count = os.preadv(files.data, [data], offset, os.RWF_NOWAIT)
        except OSError:  # EAGAIN; or a file system that cannot say (EOPNOTSUPP)
            return None
        return data if count == length and files.map.drops() == drops else None

    def renew(self, offset: int, length: int) -> None:
        """What was read there is wrong: has it fetched once more, and returns when that is done. Raises OSError."""
        self._fetch.renew(offset, max(0, min(length, self.size - offset)))

    def hint(self, ranges: Sequence[Range]) -> None:
        """These will be wanted soon."""
        files = self._current()
        missing = [(offset, length) for offset, length in ranges if not files.map.holds(offset, length)]
        if missing:
            self._fetch.hint(missing)

    def stamp(self) -> Hashable:
        """Changes when chunks are taken back, and not when some arrive."""
        files = self._current()
        return id(files), files.map.drops()

    def close(self) -> None:
        """Idempotent; reads fail with OSError (EBADF) afterwards."""
        with self._lock:
            self._closed = True
            files, self._all_files = self._all_files, []
        for each in files:
            each.close()

    def _foresee(self, offset: int, end: int) -> None:
        """Asks for what comes for a reader that goes on; races of threads cost a hint too many or too few."""
        goes_on = abs(offset - self._end) <= _NEAR_BYTES
        self._end, self._run = end, self._run + end - offset if goes_on else 0
        if self._run >= _STEP_BYTES and end // _STEP_BYTES != offset // _STEP_BYTES and end < self.size:
            self.hint([(end, min(_AHEAD_BYTES, self.size - end))])

    def _current(self) -> _Files:
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), self.name)
        return self._files

    def _reopen(self, before: _Files) -> None:
        with self._lock:
            if self._files is before and not self._closed:
                self._files = _Files(self._access)
                self._all_files.append(self._files)  # others may be reading through the old ones


def _whole(fd: int, offset: int, length: int) -> bytes:
    data = os.pread(fd, length, offset)
    if len(data) == length or not data:
        return data
    return data + _whole(fd, offset + len(data), length - len(data))
