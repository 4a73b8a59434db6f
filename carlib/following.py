"""A CARv2 while somebody writes it (`readwrite.py`), read by others: what of it is whole, found as it grows.

    pragma │ 40 zero bytes │ CARv1 header │ section │ section │ … │ a part of a section
                                                              └── `position`: from here on, each time the file has grown

A section is taken when all of it is there, which says nothing of its bytes: those are verified when they are read, as
everywhere.  The index is a dictionary: some 200 bytes of memory a block.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self, cast

from carlib import varint
from carlib.blockstore import Location, ReadOnlyBlockstore, _State
from carlib.cid import Cid
from carlib.container import Container, read_v1_header
from carlib.errors import CarError, Malformed
from carlib.header import PRAGMA, V2_HEADER_BYTES, V2_PREFIX_BYTES, V2Header
from carlib.index import Index
from carlib.section import Sections
from carlib.source import FileSource

_NO_END: Final = 1 << 60  # of a payload that still grows


class Following:
    """What is known of one such file; shared by the blockstores over it, and used from any thread."""

    def __init__(self, path: Path) -> None:
        """Raises Malformed for what is no CARv2 or has no whole header yet, other CarErrors, OSError."""
        self.source = FileSource(path)
        try:
            if self.source.peek(0, len(PRAGMA)) != PRAGMA:
                raise Malformed("there is no CARv2 here (yet)", source=self.source.name, offset=0)
            parsed = read_v1_header(self.source, V2_PREFIX_BYTES)
        except CarError as error:
            self.source.close()
            raise error.located(source=self.source.name) from None
        except BaseException:
            self.source.close()
            raise
        first = V2_PREFIX_BYTES + parsed.length
        self.container = Container(2, parsed.roots, V2_PREFIX_BYTES, _NO_END, first)
        self.position = first
        self._offsets: dict[bytes, tuple[int, int]] = {}  # multihash → ordinal, offset in the payload
        self._size = 0
        self._lock = threading.Lock()

    def follow(self) -> int:
        """Takes in what has come since; how many blocks there are."""
        if self.source.size != self._size:
            with self._lock:
                self._take()
        return len(self._offsets)

    def _take(self) -> None:
        size = self.source.size
        sections = Sections(self.source, self.position, min(size, self._end()))
        try:
            for raw, offset, _, _ in sections:
                cid = Cid(raw)
                if not cid.is_identity:
                    self._offsets.setdefault(
                        cid.multihash, (len(self._offsets), offset - self.container.data_offset)
                    )
        except CarError:
            pass  # the last one is not whole yet; if it never will be, its block is missing
        self.position = sections.position
        self._size = size

    def _end(self) -> int:
        """Of the payload, once the header says where: behind it is the index."""
        header = self.source.peek(len(PRAGMA), V2_HEADER_BYTES)
        if not any(header):
            return _NO_END
        parsed = V2Header.parse(header, file_size=None)
        return parsed.data_offset + parsed.data_size

    def find(self, multihash: bytes) -> tuple[int, int] | None:
        """Ordinal, and offset in the payload."""
        return self._offsets.get(multihash)


class _View:
    """The first `count` blocks, as an index."""

    def __init__(self, following: Following, count: int) -> None:
        self._following = following
        self._count = count

    def __len__(self) -> int:
        return self._count

    def find(self, hash_code: int, digest: bytes) -> Iterator[tuple[int, int]]:
        found = self.near(hash_code, digest)
        if found is not None:
            yield found

    def near(self, hash_code: int, digest: bytes) -> tuple[int, int] | None:
        found = self._following.find(varint.encode(hash_code) + varint.encode(len(digest)) + digest)
        return found if found is not None and found[0] < self._count else None


class FollowedBlockstore(ReadOnlyBlockstore):
    """A :class:`ReadOnlyBlockstore` over it, which has more each time that it is asked."""

    def __init__(self, following: Following) -> None:
        self._following = following
        super().__init__(following.source, following.container, _index(following))

    @classmethod
    def at(cls, path: Path) -> Self:
        """Raises Malformed, other CarErrors, OSError."""
        return cls(Following(path))

    def cids(self, *, end: int | None = None, zero_is_end: bool = True) -> Iterator[tuple[Cid, Location]]:
        """What is whole now; `end` is where that ends."""
        self._following.follow()
        return super().cids(end=self._following.position, zero_is_end=zero_is_end)

    def _lookup(self, cid: Cid) -> tuple[_State, Location | None, bytes | None]:
        if self._following.follow() != len(self._state.index):
            self._state = _State(self.source.stamp(), _index(self._following))
        return super()._lookup(cid)


def _index(following: Following) -> Index:
    return cast(Index, _View(following, following.follow()))  # the part of it that look-ups use
