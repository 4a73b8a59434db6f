"""Sections of a CARv1 payload: hopping over them in a file, or cutting them out of a stream.

Source: CARv1, Data: ``section = varint(n) CID data`` with n = len(CID) + len(data).  A section of length zero is an
error, or the end of the data where the caller says so (Filecoin pads pieces with zeros).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Final, NamedTuple

from carlib import usual, varint
from carlib.cid import read_cid
from carlib.errors import CarError, LimitExceeded, Malformed, Truncated
from carlib.header import V1Header, parse_v1
from carlib.limits import MAX_BLOCK_BYTES, MAX_CID_BYTES, MAX_SECTION_BYTES, MAX_VARINT_BYTES, MIB
from carlib.source import Buffers, ByteSource, FileSource
from carlib.usual import SHA2_256_PREFIXES, USUAL_CID_BYTES
from carlib.varint import Buffer

HEAD_BYTES: Final = MAX_VARINT_BYTES + MAX_CID_BYTES
"""The most that a section's length and CID take."""
_WIDE_WINDOW: Final = MIB
THROUGH_WINDOW: Final = 4 * MIB
"""Where the data are wanted too: some blocks of the usual 1 MiB at once."""
_NARROW_WINDOW: Final = 4096
_FAR: Final = 64 * 1024
"""After a section this long the next one is likely as long, and hopped over; among shorter ones all is read through."""

Section = tuple[bytes, int, int, int]
"""Binary CID, offset of the section, offset of its data, bytes of its data; offsets from the start of the file.

A plain tuple: a named one costs as much as all the rest of the hop (1.6 against 3 million a second, measured).
"""


class Head(NamedTuple):
    """Positions in a buffer: the CID, the data behind it, and the end of the section."""

    cid: int
    data: int
    end: int


def encode_head(cid: bytes, size: int) -> bytes:
    """What stands before the data of a section: the length of both, and the CID."""
    length = len(cid) + size
    if length < 0x80:
        return bytes((length,)) + cid
    if length < 0x4000:
        return bytes((length & 0x7F | 0x80, length >> 7)) + cid
    return varint.encode(length) + cid


def read_head(buffer: Buffer, position: int, end: int) -> Head | None:
    """The section that begins at ``position``, or None where its length is zero; only length and CID must be there.

    Raises Truncated where ``end`` comes before the end of the CID, Malformed, or LimitExceeded before anything is
    taken.
    """
    length, cid = varint.decode(buffer, position, end)
    if length == 0:
        return None
    if length > MAX_SECTION_BYTES:
        raise LimitExceeded("section length", length, MAX_SECTION_BYTES, offset=position)
    section_end = cid + length
    try:
        data = read_cid(buffer, cid, min(end, section_end))
    except Truncated:
        if section_end <= end:
            raise Malformed("section is shorter than its CID", offset=position) from None
        raise
    if section_end - data > MAX_BLOCK_BYTES:
        raise LimitExceeded("block length", section_end - data, MAX_BLOCK_BYTES, offset=position)
    return Head(cid, data, section_end)


class Window(NamedTuple):
    """A piece of the file, its offset, and the positions in it where sections begin, their lengths and CIDs
    included."""

    buffer: bytes | memoryview
    offset: int
    starts: list[int]
    whole: memoryview | None = None
    """What is to be given back to the :class:`~carlib.source.Buffers` that the windows were read into."""


class Sections:
    """The sections between ``start`` and ``end`` of ``source``, in file order, without reading their data.

    After (or during) an iteration ``position`` is the end of the last whole section: where the data really ends when
    it was padded, and how far a damaged CAR is good when the iteration raised.  Small sections are read through in
    large windows, large ones hopped over: millions of small ones a second, 2 µs a large one.
    """

    def __init__(
        self,
        source: ByteSource,
        start: int,
        end: int,
        *,
        zero_is_end: bool = False,
        window_bytes: int = _WIDE_WINDOW,
        until: int | None = None,
    ) -> None:
        """``window_bytes``: what to read at once while sections are small; less where each byte has to be fetched.
        ``until``: begin no window at or after it, and read little behind it, so that the walk can be taken up again at
        ``position``."""
        self.position = start
        self._window_bytes = window_bytes
        self._source = source
        self._end = end
        self._until = end if until is None else min(until, end)
        self._zero_is_end = zero_is_end

    def __iter__(self) -> Iterator[Section]:
        """Raises Truncated, Malformed or LimitExceeded with source and offset, after every whole section was given."""
        for buffer, base, starts, _ in self.windows():
            assert isinstance(buffer, bytes)
            for start in starts:
                length, cid = buffer[start], start + 1
                if length > 0x7F and (high := buffer[cid]) < 0x80:
                    length, cid = length & 0x7F | high << 7, cid + 1
                data, after = cid + USUAL_CID_BYTES, cid + length
                if not (USUAL_CID_BYTES <= length <= 0x3FFF and buffer[cid : cid + 4] in SHA2_256_PREFIXES):
                    cid, data, after = self.head(buffer, start, base)
                yield buffer[cid:data], base + start, base + data, after - data

    def windows(self, *, through: bool = False, buffers: Buffers | None = None) -> Iterator[Window]:
        """The same in pieces, for those that take many sections at once; the CIDs in them were not looked at yet.

        ``through``: the data are wanted too, so windows are large and end where sections do, but for a section that
        alone is larger than a window.  ``buffers``, of :data:`THROUGH_WINDOW` bytes, are what a file is then read into.
        """
        wide = THROUGH_WINDOW if through else self._window_bytes
        position, window = self.position, wide
        while position < self._until:
            room = self._end - position
            length = min(window, room, max(self._until - position, _NARROW_WINDOW))
            whole: memoryview | None = None
            buffer: bytes | memoryview
            if buffers is not None and isinstance(self._source, FileSource):
                whole = buffers.take()
                buffer = whole[: self._source.peek_into(position, whole[:length])]
            else:
                buffer = self._source.peek(position, length)
            if len(buffer) < length:
                raise Truncated(
                    "the file ends before its data should", source=self._source.name, offset=position
                )
            starts, cursor, error = self._hop(buffer, position, room)
            last = cursor - starts[-1] if starts else 0
            if through and cursor > len(buffer) and len(starts) > 1:
                cursor = starts.pop()
            if starts:
                yield Window(buffer, position, starts, whole)
            position += cursor
            self.position = position
            if error is not None:
                raise error.located(source=self._source.name, shift=position - cursor)
            if cursor == 0:
                return  # a zero length that ends the data
            window = _NARROW_WINDOW if last > _FAR and not through else wide

    def entries(self, window: Window, payload: int) -> tuple[list[memoryview], list[int]]:
        """Of ``window``: rows for an index of the usual sections, many in a piece, with offsets from ``payload``; and
        where the others begin."""
        buffer, base, starts, _ = window
        done, others, rows = 0, list[int](), list[memoryview]()
        while done < len(starts):
            count, some = usual.entries(buffer, starts[done], len(starts) - done, base - payload)
            if count:
                rows.append(memoryview(some)[: count * usual.ENTRY_BYTES])
            done += count
            others += starts[done : done + 1]
            done += 1
        return rows, others

    def head(self, buffer: Buffer, start: int, base: int) -> Head:
        """The section at ``start`` of a window at ``base``, its CID checked."""
        try:
            head = read_head(buffer, start, len(buffer))
        except CarError as error:
            self.position = base + start
            raise error.located(source=self._source.name, shift=base) from None
        if head is None:
            raise AssertionError("windows() gives no empty section")
        return head

    def _hop(self, buffer: Buffer, position: int, room: int) -> tuple[list[int], int, CarError | None]:
        """Where sections begin in ``buffer``, where the last whole one ends, and what is wrong there."""
        starts: list[int] = []
        present, cursor, start = len(buffer), 0, 0
        limit = present if present == room else present - HEAD_BYTES
        try:
            while cursor < limit:
                start = cursor
                found, cursor = usual.hop(buffer, cursor, limit)
                starts += found
                if cursor < limit:
                    start = cursor
                    head = read_head(buffer, cursor, present)
                    if head is None:
                        return starts, cursor, self._zero(cursor)
                    cursor = head.end
                    starts.append(start)
                else:
                    start = starts[-1]
        except CarError as error:
            return starts, start, error
        if cursor > room:
            starts.pop()
            length, there = cursor - start, room - start
            return (
                starts,
                start,
                Truncated(f"data ends inside a section of {length} bytes, {there} are there", offset=start),
            )
        return starts, cursor, None

    def _zero(self, cursor: int) -> CarError | None:
        return None if self._zero_is_end else Malformed("section of length zero", offset=cursor)


class NeedData(Enum):
    """What a :class:`SectionScanner` answers when it must be fed first."""

    NEED_DATA = "need data"


NEED_DATA: Final = NeedData.NEED_DATA


class Block(NamedTuple):
    """One section of a stream, data included; ``offset`` from the start of the stream."""

    cid: bytes
    data: bytes
    offset: int


class SectionScanner:
    """A CARv1 stream cut into its header and blocks, without I/O: feed bytes, ask for the next thing.

    ``next()`` gives the :class:`~carlib.header.V1Header` first, then each :class:`Block`, None at the end of the
    data, or NEED_DATA.  Raises the errors of :func:`read_head` and of the header parser, with offsets; blocks are
    not verified. At most one section (:data:`~carlib.limits.MAX_SECTION_BYTES`) and what was fed at once are held.
    """

    def __init__(self, *, zero_is_end: bool = False, offset: int = 0, source: str | None = None) -> None:
        self._buffer = bytearray()
        self._offset = offset
        self._source = source
        self._zero_is_end = zero_is_end
        self._header: V1Header | None = None
        self._complete = False
        self._ended = False

    def feed(self, data: Buffer) -> None:
        """Append ``data``; ValueError after :meth:`feed_end`."""
        if self._complete:
            raise ValueError("data after the end")
        if not self._ended:
            self._buffer += data

    def feed_end(self) -> None:
        """Say that nothing more comes: what is incomplete now is Truncated."""
        self._complete = True

    def torn(self) -> tuple[bytes, bytes] | None:
        """The binary CID of the section that is on its way, and what is there of its data; None if there is none of
        which the CID is there."""
        if self._header is None or self._ended:
            return None
        try:
            head = read_head(self._buffer, 0, len(self._buffer))
        except CarError:
            return None
        if head is None or head.end <= len(self._buffer):
            return None
        return bytes(self._buffer[head.cid : head.data]), bytes(self._buffer[head.data :])

    def next(self) -> V1Header | Block | NeedData | None:
        try:
            return self._next()
        except Truncated as error:
            if not self._complete:
                return NEED_DATA
            raise error.located(source=self._source, shift=self._offset) from None
        except CarError as error:
            raise error.located(source=self._source, shift=self._offset) from None

    def _next(self) -> V1Header | Block | NeedData | None:
        buffer = self._buffer
        if self._header is None:
            self._header = parse_v1(buffer)
            self._take(self._header.length)
            return self._header
        if self._ended or (not buffer and self._complete):
            return None
        head = read_head(buffer, 0, len(buffer))
        if head is None:
            if not self._zero_is_end:
                raise Malformed("section of length zero", offset=0)
            self._ended = True
            buffer.clear()
            return None
        if head.end > len(buffer):
            raise Truncated(
                f"data ends inside a section of {head.end} bytes, {len(buffer)} are there", offset=0
            )
        block = Block(bytes(buffer[head.cid : head.data]), bytes(buffer[head.data : head.end]), self._offset)
        self._take(head.end)
        return block

    def _take(self, length: int) -> None:
        # Deleting from the front of a bytearray moves a pointer; the bytes behind are copied only now and then.
        del self._buffer[:length]
        self._offset += length
