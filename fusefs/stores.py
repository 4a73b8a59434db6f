"""Open shards: the CAR file and its index, held open while somebody reads and for a while after, never more than a few.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from carlib import unixfs
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from fusefs.catalogue import Catalogue, ShardRecord
from fusefs.errors import ShardBroken, StaleNode
from fusefs.nearby import Nearby
from fusefs.resident import resident_blocks

if TYPE_CHECKING:
    from fusefs.shard import Shard

logger = logging.getLogger(__name__)

_FOLDERS_KEPT = 64
"""Parsed directories a shard keeps: a look-up by name should not parse its directory each time."""


class OpenShard:
    """One shard's open files; closed when the last of its holders has let go."""

    def __init__(self, record: ShardRecord) -> None:
        """Opens the files; raises ShardBroken where the CAR is not the one that was indexed, CarError, OSError."""
        assert record.path is not None
        self.record = record
        self.holders = 0
        self.idle_since = 0.0
        self._fds: list[int] = []
        self.blocks = ReadOnlyBlockstore.open(record.path, index=record.index_path, salvage=True)
        try:
            self._fd = self._open(record.path)
            self._index_fd = None if record.index_path is None else self._open(record.index_path)
            self._check_fingerprint()
            self._stamp = self._current_stamp()
            in_car = record.index_path is None
            scanned = in_car and not self.blocks.container.index_offset
            self.resident = None if scanned else resident_blocks(self.blocks, self._fd, self._index_fd)
            """The same blocks as far as they are in memory (`resident.py`); None where that cannot be told."""
        except BaseException:
            self.close()
            raise
        self._peeks = hasattr(os, "RWF_NOWAIT")
        self._folders: OrderedDict[Cid, unixfs.Directory] = OrderedDict()
        self._folders_lock = threading.Lock()

    def _open(self, path: Path) -> int:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._fds.append(fd)
        return fd

    def _check_fingerprint(self) -> None:
        due = self.record.stamp
        found = os.fstat(self._fd)
        if due and due[:3] != (found.st_size, found.st_mtime_ns, found.st_ino):
            raise ShardBroken(f"{self.record.path} is no longer the file that was indexed")

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

    def nearby(self) -> Nearby:
        """Sizes of the raw leaves of one listing."""
        return Nearby(self.blocks)

    def folder_nowait(self, cid: Cid) -> unixfs.Directory | None:
        """The same if it is in memory."""
        return self._folders.get(cid)

    def pread(self, offset: int, size: int) -> bytes:
        """Bytes of the CAR file as they lie there, fewer at its end."""
        return os.pread(self._fd, size, offset)

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
        return len(self.blocks.index) == self.record.blocks

    def peek(self, offset: int, size: int) -> bytes | None:
        """The same if the page cache holds all of it, else None: this never waits for storage.

        None too once the file has been changed since it was opened, so that what was verified before is verified again.
        """
        if not self._peeks:
            return None
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

    def _current_stamp(self) -> tuple[int, int, int]:
        found = os.fstat(self._fd)
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def close(self) -> None:
        """Idempotent; nobody may be reading."""
        self.blocks.close()
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)


Opener = Callable[[ShardRecord], OpenShard]


class Stores:
    """The open shards of a mount; every call may block, except `hold_nowait` and `drop`."""

    def __init__(
        self, catalogue: Catalogue, *, most: int = 64, idle_s: float = 5.0, opener: Opener = OpenShard
    ) -> None:
        self._opener = opener
        self._catalogue = catalogue
        self._most = most
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._opening: dict[Shard, threading.Lock] = {}
        self._open: OrderedDict[Shard, OpenShard] = OrderedDict()

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
        for shard, opened in closing.items():
            opened.close()
            self._catalogue.release(shard.key)

    def close(self) -> None:
        """Closes everything, for the end of the mount; leases end with the catalogue's session."""
        with self._lock:
            closing, self._open = self._open, OrderedDict()
        for opened in closing.values():
            opened.close()

    def _acquire(self, shard: Shard) -> OpenShard:
        record = self._catalogue.acquire(shard.key)
        try:
            if not shard.accepts(record):
                raise StaleNode(f"shard {shard.key} is another one now")
            return self._opener(record)
        except FileNotFoundError as error:
            self._catalogue.release(shard.key)
            raise ShardBroken(f"{error.filename} is gone") from None
        except BaseException:
            self._catalogue.release(shard.key)
            raise
