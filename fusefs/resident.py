"""Reading what the page cache holds, and nothing else: so that a request can be answered without a thread,
and never waits.

`ResidentSource` raises NotResident where storage would have to be asked, or where there is more to hash than
the event loop should. A blockstore over it answers like the real one or raises that; whoever gets it asks the
real one in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from typing import Final

from agent.dagstore.access import TransientSource
from carlib.blockstore import ReadOnlyBlockstore
from carlib.index import Index
from carlib.source import ByteSource, exactly

MOST_BYTES: Final = 64 * 1024
"""40 µs of hashing, or half of what a thread costs."""


class NotResident(Exception):
    """Storage would have to be asked."""


class ResidentSource:
    """A carlib ByteSource over the pages in memory of a file that somebody else has open."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self._fd = fd

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def pread(self, offset: int, length: int) -> bytes:
        return exactly(self.peek(offset, length), length, self.name, offset)

    def peek(self, offset: int, length: int) -> bytes:
        if length > MOST_BYTES:
            raise NotResident
        data = bytearray(length)
        try:
            count = os.preadv(self._fd, [data], offset, os.RWF_NOWAIT)
        except OSError:  # EAGAIN; or a file system that cannot say (EOPNOTSUPP)
            raise NotResident from None
        if count < length and offset + count < self.size:
            raise NotResident
        return bytes(data) if count == length else bytes(data[:count])

    def stamp(self) -> Hashable:
        found = os.fstat(self._fd)
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def close(self) -> None:
        """Nothing: the file is not ours."""


class ResidentTransient:
    """Likewise over what of a transient is there, and in memory."""

    def __init__(self, transient: TransientSource) -> None:
        self.name = transient.name
        self.size = transient.size
        self._transient = transient

    def pread(self, offset: int, length: int) -> bytes:
        return exactly(self.peek(offset, length), length, self.name, offset)

    def peek(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self.size - offset))
        data = self._transient.peek_nowait(offset, length) if length <= MOST_BYTES else None
        if data is None:
            raise NotResident
        return bytes(data)

    def stamp(self) -> Hashable:
        return self._transient.stamp()

    def close(self) -> None:
        """Nothing: the files are not ours."""


def resident_blocks(
    blocks: ReadOnlyBlockstore, source: ByteSource, index_fd: int | None
) -> ReadOnlyBlockstore:
    """`blocks` over the pages in memory, which `source` gives; `index_fd` None: its index lies in the CAR itself."""
    of_index = source if index_fd is None else ResidentSource("index", index_fd)
    found = blocks.index
    index = Index(of_index, found.codec, found.buckets, found.start, found.end)
    return ReadOnlyBlockstore(source, blocks.container, index)
