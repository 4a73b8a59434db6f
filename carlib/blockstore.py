"""Blocks by CID out of a CAR: payload and index joined, read only, every block verified before it is handed out.

Look-ups go by multihash (two kubo fixtures file dag-pb blocks under raw CIDs), or by whole CID where asked.
Identity CIDs are answered from themselves.  An index is searched in place; one that was found inside the CAR is a
hint: where it misleads or lacks a block, the sections themselves are asked once and for all.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Hashable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

from carlib import multihash
from carlib.cid import Cid
from carlib.container import Container, read_container
from carlib.errors import BlockNotFound, CarError, Malformed
from carlib.index import Index
from carlib.limits import MAX_VARINT_BYTES
from carlib.section import HEAD_BYTES, Sections, read_head
from carlib.source import ByteSource, FileSource
from carlib.usual import SHA2_256_PREFIXES, USUAL_CID_BYTES

_FIRST_READ: Final = 1024
"""Enough for the length and CID of nearly every section, and for the data of small ones; costs no more than 128."""
_KNOWN_LOCATIONS: Final = 4096


class Blocks(Protocol):
    """Verified blocks by CID: what UnixFS, traversal and the mount read from; used from several threads at once."""

    def get(self, cid: Cid) -> bytes:
        """The block; raises BlockNotFound, HashMismatch, UnknownHash, other CarErrors, OSError."""

    def has(self, cid: Cid) -> bool:
        """Whether the block is here; its data is not looked at."""

    def size(self, cid: Cid) -> int:
        """Bytes of the block, without reading it; raises BlockNotFound."""


class MemoryBlocks:
    """:class:`Blocks` in a dictionary, by multihash; for small things and tests."""

    def __init__(self) -> None:
        self._blocks: dict[bytes, bytes] = {}

    def put(self, cid: Cid, data: bytes) -> None:
        """Keep ``data`` as it is: it is verified when it is asked for."""
        if not cid.is_identity:
            self._blocks[cid.multihash] = data

    def get(self, cid: Cid) -> bytes:
        data = self._lookup(cid)
        multihash.check(cid, data)
        return data

    def has(self, cid: Cid) -> bool:
        return cid.is_identity or cid.multihash in self._blocks

    def size(self, cid: Cid) -> int:
        return len(self._lookup(cid))

    def _lookup(self, cid: Cid) -> bytes:
        if cid.is_identity:
            return cid.digest
        data = self._blocks.get(cid.multihash)
        if data is None:
            raise BlockNotFound(cid)
        return data


class Location(NamedTuple):
    """Where a block lies: its entry's place in the index, and offsets in bytes from the start of the file."""

    ordinal: int
    section_offset: int
    data_offset: int
    size: int


class _State:
    """What is known while the file's stamp and the index stay: replaced whole, so that no thread sees half of each."""

    __slots__ = ("good", "index", "last", "locations", "stamp")

    def __init__(self, stamp: Hashable, index: Index) -> None:
        self.stamp = stamp
        self.index = index
        self.good = bytearray((len(index) >> 3) + 1)
        self.locations: dict[bytes, Location] = {}
        # The last small block that was found: who asks for its size wants its data next.
        self.last: tuple[bytes, Location, bytes | None] = (b"", Location(-1, 0, 0, 0), None)

    def is_good(self, ordinal: int) -> bool:
        return bool(self.good[ordinal >> 3] >> (ordinal & 7) & 1)


class ReadOnlyBlockstore:
    """:class:`Blocks` over one CAR file and its index; a context manager.

    A block is verified when it is first touched and remembered as good (one bit each) until the file's stamp
    changes: then everything is verified anew.  Memory does not grow with the CAR but by those bits.
    """

    def __init__(
        self,
        source: ByteSource,
        container: Container,
        index: Index,
        *,
        whole_cids: bool = False,
        verify: bool = True,
        hint: bool = False,
        owned: tuple[ByteSource, ...] = (),
    ) -> None:
        """Over what the caller opened; :meth:`open` is the usual way.  ``hint``: whether ``index`` may be wrong."""
        self.container = container
        self.source = source
        self._whole_cids = whole_cids
        self._verify = verify
        self._hint = hint
        self._owned = [source, *owned]
        self._lock = threading.Lock()
        self._state = _State(source.stamp(), index)
        self._data_offset, self._data_end = container.data_offset, container.data_end
        self._first_section = container.first_section

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        index: Path | None = None,
        whole_cids: bool = False,
        verify: bool = True,
        salvage: bool = False,
    ) -> Self:
        """The CAR at ``path`` with the detached index file ``index``.

        Without one: the CARv2's own index as a hint, or one built now in an unlinked temporary file.  ``salvage``
        takes a damaged CAR as far as it is whole.  Raises CarError, OSError.
        """
        source = FileSource(path)
        owned: list[ByteSource] = []
        try:
            container = read_container(source, whole=not salvage)
            if index is not None:
                owned.append(FileSource(index))
                found: Index | None = Index.open(owned[0])
            else:
                found = own_index(source, container)
            hint = index is None and found is not None
            if found is None:
                owned.append(_scanned_index(path, salvage))
                found = Index.open(owned[-1])
            options = {"whole_cids": whole_cids, "verify": verify, "hint": hint}
            return cls(source, container, found, **options, owned=tuple(owned))
        except BaseException:
            for each in (source, *owned):
                each.close()
            raise

    @property
    def roots(self) -> tuple[Cid, ...]:
        return self.container.roots

    @property
    def version(self) -> int:
        return self.container.version

    @property
    def index(self) -> Index:
        return self._state.index

    def get(self, cid: Cid) -> bytes:
        raw = cid.raw
        if raw[:4] not in SHA2_256_PREFIXES and cid.is_identity:
            return cid.digest
        state, location, data = self._lookup(cid)
        if location is None:
            raise BlockNotFound(cid, source=self.source.name)
        if data is None:
            data = self.source.pread(location.data_offset, location.size)
        if self._verify and not state.is_good(location.ordinal):
            self._check(cid, data, state, location)
        return data

    def read(self, cid: Cid, start: int, stop: int) -> bytes:
        """Bytes ``start`` to ``stop`` of the block, cut at its end; the whole block is verified when first touched."""
        if cid.is_identity:
            return cid.digest[start:stop]
        state, location, data = self._find(cid)
        if not state.is_good(location.ordinal):
            data = self.source.pread(location.data_offset, location.size) if data is None else data
            self._check(cid, data, state, location)
        if data is not None:
            return data[start:stop]
        stop = min(stop, location.size)
        return self.source.pread(location.data_offset + start, max(0, stop - start))

    def stored(self, cid: Cid) -> bytes:
        """What stands in the section of ``cid``, unverified, identity CIDs too: for formats that file other things
        there."""
        _, location, data = self._find(cid)
        return self.source.pread(location.data_offset, location.size) if data is None else data

    def has(self, cid: Cid) -> bool:
        return self.locate(cid) is not None

    def size(self, cid: Cid) -> int:
        return len(cid.digest) if cid.is_identity else self._find(cid)[1].size

    def is_verified(self, cid: Cid) -> bool:
        """Whether the block was verified since the file was last changed; identity CIDs always are."""
        if cid.is_identity:
            return True
        state, location, _ = self._lookup(cid)
        return location is not None and state.is_good(location.ordinal)

    def locate(self, cid: Cid) -> Location | None:
        """Where the block lies, or None; for an identity CID a place in no file, at offset 0."""
        if cid.is_identity:
            return Location(-1, 0, 0, len(cid.digest))
        return self._lookup(cid)[1]

    def cids(self, *, end: int | None = None, zero_is_end: bool = True) -> Iterator[tuple[Cid, Location]]:
        """Every section in file order up to the offset ``end``, no data read; ordinals are -1.

        Raises CarError where the CAR is damaged before ``end`` (the end of the payload if None).
        """
        container = self.container
        stop = container.data_end if end is None else min(end, container.data_end)
        for cid, offset, data_offset, size in Sections(
            self.source, container.first_section, stop, zero_is_end=zero_is_end
        ):
            yield Cid(cid), Location(-1, offset, data_offset, size)

    def close(self) -> None:
        """Idempotent; whatever is asked afterwards raises OSError."""
        for each in self._owned:
            each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _find(self, cid: Cid) -> tuple[_State, Location, bytes | None]:
        state, location, data = self._lookup(cid)
        if location is None:
            raise BlockNotFound(cid, source=self.source.name)
        return state, location, data

    def _lookup(self, cid: Cid) -> tuple[_State, Location | None, bytes | None]:
        """Where the block lies while that state holds, and its data, unverified, where they came along."""
        state, stamp, raw, data = self._state, self.source.stamp(), cid.raw, None
        if stamp != state.stamp:
            state = self._state = _State(stamp, state.index)
        usual = len(raw) == USUAL_CID_BYTES and raw[:4] in SHA2_256_PREFIXES
        key = raw if self._whole_cids else raw[2:] if usual else cid.multihash
        last = state.last
        if last[0] == key:
            return state, last[1], last[2]
        location = state.locations.get(key)
        if location is None:
            near = self._near(state.index, raw) if usual else None
            if near is None:
                state, location = self._search(state, cid)
            else:
                location, data = near
            # What comes with its data is found again as fast as it would be read from where it is known to be.
            if location is not None and data is not None:
                state.last = (key, location, data)
            elif location is not None:
                if len(state.locations) >= _KNOWN_LOCATIONS:
                    state.locations.clear()
                state.locations[key] = location
        return state, location, data

    def _near(self, index: Index, raw: bytes) -> tuple[Location, bytes | None] | None:
        """The first block of the usual CID ``raw``, if two reads find it; None says nothing: :meth:`_search` will."""
        try:
            found = index.near(multihash.SHA2_256, raw[4:])
        except CarError:
            return None
        if found is None:
            return None
        start = self._data_offset + found[1]
        room = self._data_end - start
        if start < self._first_section or room <= 0:
            return None
        piece = self.source.peek(start, min(_FIRST_READ, room))
        at = piece.find(raw, 1, MAX_VARINT_BYTES + USUAL_CID_BYTES)
        if at < 1:
            return None
        if at == 1 and (length := piece[0]) < 0x80:
            pass
        elif at == 2 and piece[0] > 0x7F and 0 < piece[1] < 0x80:
            length = piece[0] & 0x7F | piece[1] << 7
        elif at == 3 and piece[0] > 0x7F and piece[1] > 0x7F and 0 < piece[2] < 0x80:
            length = piece[0] & 0x7F | (piece[1] & 0x7F) << 7 | piece[2] << 14
        else:
            return None
        if length < USUAL_CID_BYTES or at + length > room:
            return None
        data, end = at + USUAL_CID_BYTES, at + length
        location = Location(found[0], start, start + data, length - USUAL_CID_BYTES)
        return location, piece[data:end] if end <= len(piece) else None

    def _search(self, state: _State, cid: Cid) -> tuple[_State, Location | None]:
        hint = self._hint
        try:
            location = self._search_index(state.index, cid)
        except CarError:
            if not hint:
                raise
            location = None
        if location is None and hint:
            state = self._scan()
            location = self._search_index(state.index, cid)
        return state, location

    def _search_index(self, index: Index, cid: Cid) -> Location | None:
        for ordinal, offset in index.find(cid.hash_code, cid.digest):
            found, location = self._section(ordinal, offset)
            if found == cid if self._whole_cids else found.multihash == cid.multihash:
                return location
        return None

    def _section(self, ordinal: int, offset: int) -> tuple[Cid, Location]:
        """The CID and place of the section at ``offset`` of the payload, as the file itself has them."""
        container = self.container
        start = container.data_offset + offset
        if not container.first_section <= start < container.data_end:
            raise Malformed(f"index points to {start}, outside of the data", source=self.source.name)
        try:
            for length in (_FIRST_READ, HEAD_BYTES):
                piece = self.source.peek(start, min(length, container.data_end - start))
                try:
                    head = read_head(piece, 0, len(piece))
                    break
                except CarError:
                    if length == HEAD_BYTES or len(piece) < length:
                        raise
        except CarError as error:
            raise error.located(source=self.source.name, shift=start) from None
        if head is None or start + head.end > container.data_end:
            raise Malformed("index points to no whole section", source=self.source.name, offset=start)
        return Cid(piece[head.cid : head.data]), Location(
            ordinal, start, start + head.data, head.end - head.data
        )

    def _scan(self) -> _State:
        """Put an index of our own in the place of the CAR's, once."""
        with self._lock:
            if self._hint:
                built = _scanned_index(Path(self.source.name), salvage=True)
                self._owned.append(built)
                self._state = _State(self.source.stamp(), Index.open(built))
                self._hint = False
            return self._state

    def _check(self, cid: Cid, data: bytes, state: _State, location: Location) -> None:
        """Verify ``data``, which was read while ``state`` held."""
        if not self._verify:
            return
        raw, ordinal = cid.raw, location.ordinal
        if raw[:4] not in SHA2_256_PREFIXES or hashlib.sha256(data).digest() != raw[4:]:
            try:
                multihash.check(cid, data)
            except CarError as error:
                error.source, error.offset = self.source.name, location.section_offset
                raise
        with self._lock:
            state.good[ordinal >> 3] |= 1 << (ordinal & 7)


def own_index(source: ByteSource, container: Container) -> Index | None:
    """The index that the CARv2 carries, or None where there is none that can be read: then it is to be made anew."""
    if not container.index_offset:
        return None
    try:
        return Index.open(source, container.index_offset)
    except CarError:
        return None


def _scanned_index(path: Path, salvage: bool) -> ByteSource:
    from carlib import indexing  # numpy: 25 MB and 0.1 s that a mount with its indices at hand does not need

    with tempfile.TemporaryDirectory(prefix="carfs-") as folder:
        file = Path(folder) / "index"
        indexing.build(path, file, identity=True, salvage=salvage, durably=False)
        return FileSource(file)
