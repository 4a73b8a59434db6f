"""Open shards: a CAR's data and its index, held open while somebody reads and for a while after, never more than a few.

A shard is acquired from the catalogue (leased) and its files opened on first use; it is closed and released
when nobody has used it for a few seconds (a shard in use cannot be destroyed), or earlier when too many are
open.  One that a file handle, a listing or a call holds is never closed.  Used from threads.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agent.dagstore.access import Fetch, FileAccess, RepairedAccess, TransientSource
from carlib import unixfs
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.source import ByteSource
from fusefs.catalogue import Leasing, ShardRecord
from fusefs.errors import ShardBroken, StaleNode
from fusefs.nearby import Nearby
from fusefs.remote import RemoteBlocks, foreseen
from fusefs.resident import ResidentSource, ResidentTransient, resident_blocks

if TYPE_CHECKING:
    from fusefs.rendering import Rendering
    from fusefs.shard import Shard

logger = logging.getLogger(__name__)

_FOLDERS_KEPT = 64
"""Parsed directories a shard keeps: a look-up by name should not parse its directory each time."""


class OpenShard:
    """One shard's open files; closed when the last of its holders has let go."""

    def __init__(self, record: ShardRecord, fetch: Fetch) -> None:
        """Opens the files; raises ShardBroken where the CAR is not the one that was indexed, CarError, OSError."""
        self.record = record
        self.holders = 0
        self.idle_since = 0.0
        self._fds: list[int] = []
        self._fd: int | None = None  # of the CAR, if it is a local file
        self._source: ByteSource | None = None  # else
        self.resident: ReadOnlyBlockstore | None = None
        """The same blocks as far as they are in memory (`resident.py`); None where that cannot be told."""
        self.blocks = self._blocks(record, fetch)
        try:
            self._index_fd = None if record.index_path is None else self._open(record.index_path)
            if record.path is not None:
                self._fd = self._open(record.path)
                self._check_fingerprint(self._fd)
                in_car = record.index_path is None
                if not in_car or self.blocks.container.index_offset:
                    source = ResidentSource(self.blocks.source.name, self._fd)
                    self.resident = resident_blocks(self.blocks, source, self._index_fd)
            else:
                self._source = self.blocks.source
                if isinstance(record.access, RepairedAccess) and isinstance(record.access.base, FileAccess):
                    # The bytes of a repair are of the data that was indexed, and of no other.
                    self._check_fingerprint(self._open(Path(record.access.base.path)))
                if isinstance(self._source, TransientSource):
                    self.resident = resident_blocks(
                        self.blocks, ResidentTransient(self._source), self._index_fd
                    )
            self._stamp = self._current_stamp()
        except BaseException:
            self.close()
            raise
        self._peeks = hasattr(os, "RWF_NOWAIT")
        self._folders: OrderedDict[Cid, unixfs.Directory] = OrderedDict()
        self._folders_lock = threading.Lock()
        self._rendering: Rendering | None = None

    def _blocks(self, record: ShardRecord, fetch: Fetch) -> ReadOnlyBlockstore:
        return _opened_blocks(record, fetch)

    def _open(self, path: Path) -> int:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._fds.append(fd)
        return fd

    def _check_fingerprint(self, fd: int) -> None:
        due = self.record.stamp
        found = os.fstat(fd)
        if due and due[:3] != (found.st_size, found.st_mtime_ns, found.st_ino):
            raise ShardBroken(f"{self.record.path} is no longer the file that was indexed")

    @property
    def remote(self) -> bool:
        """Whether some of the data may have to be fetched first."""
        return self.record.remote

    def folder(self, cid: Cid) -> unixfs.Directory:
        """The parsed directory, from memory if it was used of late."""
        with self._folders_lock:
            found = self._folders.get(cid)
            if found is not None:
                self._folders.move_to_end(cid)
                return found
        opened = unixfs.Directory.open(self.blocks, cid)
        with self._folders_lock:
            self._folders[cid] = opened
            while len(self._folders) > _FOLDERS_KEPT:
                self._folders.popitem(last=False)
        return opened

    @property
    def here(self) -> ReadOnlyBlockstore | None:
        """What a listing may look at: of remote data, only what was fetched."""
        return self.resident if self.remote else self.blocks

    def foresee(self, cids: Iterable[Cid]) -> None:
        """Says that these blocks, as far as they are in the shard, will be looked at soon."""
        if isinstance(self.blocks, RemoteBlocks):
            self.blocks.foresee(cids)

    def foreseen(self, entries: Iterator[unixfs.Entry]) -> Iterator[unixfs.Entry]:
        """The same entries, after their blocks were asked for if they may have to be fetched."""
        return foreseen(entries, self.foresee) if self.remote else entries

    def nearby(self) -> Nearby | None:
        """Sizes of the raw leaves of one listing; None for remote data, whose sections are not read through."""
        return None if self.remote else Nearby(self.blocks)

    def obstacle(self) -> str:
        """Why an import by reference has no CAR with all its blocks that could be shown; "" if it has."""
        from fusefs import rendering
        from fusefs.referring import ReferringBlocks

        assert isinstance(self.blocks, ReferringBlocks)
        return rendering.obstacle(self.blocks.behind)

    def rendering(self) -> Rendering:
        """That CAR; made when it is first asked for, and kept while we are open."""
        from fusefs import rendering
        from fusefs.referring import ReferringBlocks

        assert isinstance(self.blocks, ReferringBlocks)
        with self._folders_lock:
            if self._rendering is None:
                self._rendering = rendering.Rendering(self.blocks.behind, self.record.data_size)
            return self._rendering

    def folder_nowait(self, cid: Cid) -> unixfs.Directory | None:
        """The same if it is in memory."""
        return self._folders.get(cid)

    def pread(self, offset: int, size: int) -> bytes:
        """Bytes of the CAR as they lie there, fewer at its end; of remote ones, once they were fetched."""
        if self._fd is not None:
            return os.pread(self._fd, size, offset)
        return self.blocks.source.peek(offset, size)

    def pread_index(self, offset: int, size: int) -> bytes:
        """Bytes of the detached index file."""
        assert self._index_fd is not None
        return os.pread(self._index_fd, size, offset)

    @property
    def index_size(self) -> int:
        """Bytes of the index section."""
        if self._index_fd is not None:
            return os.fstat(self._index_fd).st_size
        return self.blocks.index.end - self.blocks.container.index_offset

    @property
    def fully_indexed(self) -> bool:
        """Whether the index lists every section, identity CIDs too."""
        if self._index_fd is None:
            return self.blocks.container.fully_indexed
        # An index that was taken over from remote data lists what its CAR says that it does.
        taken_over = self._fd is None and self.blocks.version == 2
        return len(self.blocks.index) == self.record.blocks and (
            not taken_over or self.blocks.container.fully_indexed
        )

    def peek(self, offset: int, size: int) -> bytes | None:
        """The same if the page cache holds all of it, else None: this never waits for storage.

        None too once the file has been changed since it was opened, so that what was verified before is verified again.
        """
        if not self._peeks:
            return None
        if self._fd is None:
            return self._peek_elsewhere(offset, size)
        data = bytearray(size)
        try:
            count = os.preadv(self._fd, [data], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return None
        except OSError:  # a file system that cannot say (EOPNOTSUPP)
            self._peeks = False
            return None
        if count != size or self._current_stamp() != self._stamp:
            return None
        return data  # type: ignore[return-value]  # a bytearray that nobody else has: as good as bytes, and not copied

    def _peek_elsewhere(self, offset: int, size: int) -> bytes | None:
        """The same where the data is no file of its own."""
        if not isinstance(self._source, TransientSource):
            return None
        data = self._source.peek_nowait(offset, size)
        return None if self._current_stamp() != self._stamp else data  # type: ignore[return-value]  # as above

    def _current_stamp(self) -> Hashable:
        if self._fd is None:
            return self.blocks.source.stamp()
        found = os.fstat(self._fd)
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def close(self) -> None:
        """Idempotent; nobody may be reading."""
        self.blocks.close()
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)


Opener = Callable[[ShardRecord, Fetch], OpenShard]


def _opened_blocks(record: ShardRecord, fetch: Fetch) -> ReadOnlyBlockstore:
    """The blocks of a shard; raises ShardBroken, CarError, OSError."""
    if record.path is not None and record.refers_below is not None:
        from fusefs.referring import ReferringBlocks  # and numpy, 80 ms, for those who have such imports

        return ReferringBlocks.at(record.path, record.refers_below, record.index_path)
    if record.path is not None:
        return ReadOnlyBlockstore.open(record.path, index=record.index_path, salvage=True)
    if record.access is None or record.index_path is None:
        raise ShardBroken(f"shard {record.key} has no data that can be read")
    return RemoteBlocks.at(record.access, record.index_path, fetch)


class Stores:
    """The open shards of a mount; every call may block, except `hold_nowait` and `drop`."""

    def __init__(
        self, catalogue: Leasing, *, most: int = 64, idle_s: float = 5.0, opener: Opener = OpenShard
    ) -> None:
        self._opener = opener
        self._catalogue = catalogue
        self._most = most
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._opening: dict[Shard, threading.Lock] = {}
        self._open: OrderedDict[Shard, OpenShard] = OrderedDict()
        self._retired: list[
            tuple[Shard, OpenShard]
        ] = []  # of shards that were repaired since, or have grown, and are open anew

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def use(self, shard: Shard) -> Iterator[OpenShard]:
        """The shard's open files while the block runs."""
        opened = self.hold(shard)
        try:
            yield opened
        finally:
            self.drop(opened)

    def hold_nowait(self, shard: Shard) -> OpenShard | None:
        """The shard's open files if they are open, to be given back by `drop`."""
        with self._lock:
            opened = self._open.get(shard)
            if opened is not None and opened.record.opened_as != shard.record.opened_as:
                self._retired.append((shard, self._open.pop(shard)))  # who holds it reads on as before
                return None
            if opened is not None:
                opened.holders += 1
                self._open.move_to_end(shard)
            return opened

    def hold(self, shard: Shard) -> OpenShard:
        """The same, opened if need be; a second caller meanwhile waits for the first."""
        opened = self.hold_nowait(shard)
        if opened is not None:
            return opened
        with self._lock:
            opening = self._opening.setdefault(shard, threading.Lock())
        with opening:
            opened = self.hold_nowait(shard)
            if opened is None:
                opened = self._acquire(shard)
                with self._lock:
                    opened.holders += 1
                    self._open[shard] = opened
                    self._opening.pop(shard, None)
        self.sweep()
        return opened

    def drop(self, opened: OpenShard) -> None:
        """Lets go of what `hold` gave; closing waits for `sweep`."""
        with self._lock:
            opened.holders -= 1
            opened.idle_since = time.monotonic()

    def let_go(self, shard: Shard) -> bool:
        """Closes a shard that nobody uses, however lately; False if somebody does."""
        with self._lock:
            opened = self._open.get(shard)
            if shard in self._opening or (opened is not None and opened.holders):
                return False
            if any(one[0] is shard and one[1].holders for one in self._retired):
                return False
            if opened is not None:
                opened.idle_since = float("-inf")
        self.sweep()
        return True

    def sweep(self) -> None:
        """Closes and releases what nobody has used for long, and the longest unused where too many are open."""
        now = time.monotonic()
        with self._lock:
            idle = [shard for shard, opened in self._open.items() if opened.holders == 0]
            surplus = max(0, len(self._open) - self._most)
            closing = {
                shard: self._open[shard]
                for place, shard in enumerate(idle)
                if place < surplus or now - self._open[shard].idle_since >= self._idle_s
            }
            for shard in closing:
                del self._open[shard]
            retired = [one for one in self._retired if one[1].holders == 0]
            self._retired = [one for one in self._retired if one[1].holders]
            leased = {*self._open, *self._opening}
        for shard, opened in retired:
            opened.close()
            if shard not in leased:
                self._catalogue.release(shard.key)
        for shard, opened in closing.items():
            opened.close()
            self._catalogue.release(shard.key)

    def close(self) -> None:
        """Closes everything, for the end of the mount; leases end with the catalogue's session."""
        with self._lock:
            closing, self._open = self._open, OrderedDict()
            retired, self._retired = self._retired, []
        for opened in (*closing.values(), *(one for _, one in retired)):
            opened.close()

    def _acquire(self, shard: Shard) -> OpenShard:
        record = self._catalogue.acquire(shard.key)
        try:
            if not shard.accepts(record):
                raise StaleNode(f"shard {shard.key} is another one now")
            return self._opener(record, self._catalogue.fetcher(shard.key))
        except FileNotFoundError as error:
            self._catalogue.release(shard.key)
            raise ShardBroken(f"{error.filename} is gone") from None
        except BaseException:
            self._catalogue.release(shard.key)
            raise
