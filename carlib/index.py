"""Index sections: which multihash lies at which offset, searched where they lie and never loaded whole.

Source: CARv2, Index formats, as real files have them (the published text lacks the bucket count and calls a byte
length a count).  An index is ``varint codec`` and a body; all body integers are little-endian, counts are signed 32
bits:

    IndexSorted 0x0400:           i32 buckets; per bucket, ascending: u32 width, u64 byte length, entries
    MultihashIndexSorted 0x0401:  i32 codes;   per code, ascending:   u64 hash code, an IndexSorted body
    entry:                        digest | u64 offset of the section's length varint in the CARv1; sorted by digest

A detached index file is the same bytes.  An index found inside a CAR is a hint: whoever follows it checks what is
there.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from carlib import varint
from carlib.errors import LimitExceeded, Malformed, Truncated, UnknownCodec
from carlib.landmarks import VALUE_BYTES, WIDE_WINDOW, WINDOW, Landmarks
from carlib.limits import MAX_INDEX_BUCKETS, MAX_INDEX_WIDTH, MIB
from carlib.source import ByteSource

INDEX_SORTED: Final = 0x0400
MULTIHASH_INDEX_SORTED: Final = 0x0401
CODEC_NAMES: Final = {INDEX_SORTED: "car-index-sorted", MULTIHASH_INDEX_SORTED: "car-multihash-index-sorted"}
"""Names as in the multicodec table."""
OFFSET_BYTES: Final = 8
_COUNT: Final = struct.Struct("<i")
_CODE: Final = struct.Struct("<Q")
_BUCKET: Final = struct.Struct("<IQ")
_PROBE: Final = 64
"""Entries read at once when the search has come near."""
_MAX_LANDMARKS: Final = 16
"""Buckets for which landmarks are kept; usual indices have one that is large."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Equally wide entries of one hash function, None where the codec does not tell; ``start`` is a file offset."""

    hash_code: int | None
    digest_bytes: int
    start: int
    count: int
    first_ordinal: int

    @property
    def width(self) -> int:
        return self.digest_bytes + OFFSET_BYTES


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its place among all entries, and an offset from the start of the CARv1 payload."""

    ordinal: int
    hash_code: int | None
    digest: bytes
    offset: int


class Index:
    """An index in ``source``, searched in place: a look-up reads two or three small pieces, whatever its size, and
    one when some have been done."""

    def __init__(
        self, source: ByteSource, codec: int, buckets: tuple[Bucket, ...], start: int, end: int
    ) -> None:
        self.codec = codec
        self.buckets = buckets
        self.start = start
        self.end = end
        self._source = source
        self._by_hash = {(bucket.hash_code, bucket.digest_bytes): bucket for bucket in buckets}
        self._landmarks: dict[int, Landmarks] = {}  # by the bucket's start

    @classmethod
    def open(cls, source: ByteSource, start: int = 0) -> Index:
        """The index that begins at ``start``; only its bucket heads are read.

        Raises UnknownCodec, Malformed, Truncated or LimitExceeded, and never takes memory by an announced length.
        """
        codec, cursor = _codec_at(source, start)
        reader = _BucketReader(source, cursor)
        if codec == INDEX_SORTED:
            reader.read_widths(None)
        elif codec == MULTIHASH_INDEX_SORTED:
            for _ in range(reader.read_count("hash codes")):
                reader.read_widths(reader.read_code())
        else:
            raise UnknownCodec(codec, "index codec", source=source.name, offset=start)
        return cls(source, codec, tuple(reader.buckets), start, reader.cursor)

    def __len__(self) -> int:
        """Number of entries."""
        return sum(bucket.count for bucket in self.buckets)

    def __iter__(self) -> Iterator[Entry]:
        """All entries in the order they lie in, read in pieces."""
        for bucket in self.buckets:
            for first, piece in self.pieces(bucket):
                for number in range(len(piece) // bucket.width):
                    entry = piece[number * bucket.width : (number + 1) * bucket.width]
                    digest, offset = (
                        entry[: bucket.digest_bytes],
                        int.from_bytes(entry[bucket.digest_bytes :], "little"),
                    )
                    yield Entry(bucket.first_ordinal + first + number, bucket.hash_code, digest, offset)

    def pieces(self, bucket: Bucket) -> Iterator[tuple[int, bytes]]:
        """The entries of a bucket as they lie there, a MiB at a time; each with the number of its first one."""
        step = max(1, MIB // bucket.width)
        for first in range(0, bucket.count, step):
            count = min(bucket.count - first, step)
            yield first, self._source.pread(bucket.start + first * bucket.width, count * bucket.width)

    def at(self, ordinal: int) -> Entry:
        """The entry with that place among all; IndexError past the last."""
        for bucket in self.buckets:
            number = ordinal - bucket.first_ordinal
            if 0 <= number < bucket.count:
                entry = self._source.pread(bucket.start + number * bucket.width, bucket.width)
                digest = entry[: bucket.digest_bytes]
                return Entry(
                    ordinal, bucket.hash_code, digest, int.from_bytes(entry[len(digest) :], "little")
                )
        raise IndexError(ordinal)

    def has_bytes_of(self, other: Index) -> bool:
        """Whether both are the same to the byte, codec included."""
        length = self.end - self.start
        return length == other.end - other.start and all(
            self._source.peek(self.start + at, size) == other._source.peek(other.start + at, size)
            for at in range(0, length, MIB)
            if (size := min(MIB, length - at))
        )

    def find(self, hash_code: int, digest: bytes) -> Iterator[tuple[int, int]]:
        """``(ordinal, offset)`` of every entry of that digest; the same digest may stand there several times."""
        code = None if self.codec == INDEX_SORTED else hash_code
        bucket = self._by_hash.get((code, len(digest)))
        if bucket is None:
            return
        near = self.near(hash_code, digest)
        if near is not None:
            yield near
            number = near[0] - bucket.first_ordinal + 1
        else:
            number = self._leftmost(bucket, digest)
            self._learn(bucket, digest, number)
        while number < bucket.count:
            entry = self._source.pread(bucket.start + number * bucket.width, bucket.width)
            if entry[: bucket.digest_bytes] != digest:
                return
            yield bucket.first_ordinal + number, int.from_bytes(entry[bucket.digest_bytes :], "little")
            number += 1

    def near(self, hash_code: int, digest: bytes) -> tuple[int, int] | None:
        """The first that :meth:`find` would give, where one read finds it; None says nothing."""
        bucket = self._by_hash.get((None if self.codec == INDEX_SORTED else hash_code, len(digest)))
        if bucket is None:
            return None
        landmarks = self._landmarks.get(bucket.start)
        if landmarks is None or (place := landmarks.place(digest)) is None:
            return None
        found = self._among(bucket, digest, place, WINDOW)
        if found is None:
            found = self._among(bucket, digest, place, WIDE_WINDOW)
            if found is not None:
                landmarks.learn(digest, found[0] - bucket.first_ordinal)
        return found

    def _among(self, bucket: Bucket, digest: bytes, place: int, window: int) -> tuple[int, int] | None:
        """The first entry of ``digest`` if it is among the ``window`` around ``place``, and certainly the first."""
        digest_bytes, count = bucket.digest_bytes, bucket.count
        width = digest_bytes + OFFSET_BYTES
        first = place - window // 2
        if first + window > count:
            first = count - window
        if first < 0:
            first, window = 0, min(window, count)
        piece = self._source.pread(bucket.start + first * width, window * width)
        at = piece.find(digest)
        number, rest = divmod(at, width)
        if rest or at <= 0:
            return None  # not here, or across two entries, or there may be more of it before
        at += digest_bytes
        return bucket.first_ordinal + first + number, int.from_bytes(piece[at : at + OFFSET_BYTES], "little")

    def _learn(self, bucket: Bucket, digest: bytes, number: int) -> None:
        landmarks = self._landmarks.get(bucket.start)
        if landmarks is None:
            small = bucket.count < WINDOW or bucket.digest_bytes < VALUE_BYTES
            if small or len(self._landmarks) >= _MAX_LANDMARKS:
                return
            landmarks = self._landmarks.setdefault(bucket.start, Landmarks(bucket.count))
        landmarks.learn(digest, number)

    def _leftmost(self, bucket: Bucket, digest: bytes) -> int:
        """The number of the first entry that is not less than ``digest``.

        Digests are uniform, so the place is guessed from the digest's value (a few reads for 10 million entries); after
        eight guesses, or for entries made to mislead, plain bisection ends it.
        """
        low, high = 0, bucket.count
        value, low_value, high_value = _prefix(digest), 0, 1 << 64
        for _ in range(8):
            if high - low <= _PROBE:
                break
            guess = low + (value - low_value) * (high - low) // max(1, high_value - low_value)
            first = min(max(low, guess - _PROBE // 2), high - _PROBE)
            piece = self._piece(bucket, first, first + _PROBE)
            least, most = piece.digest(0), piece.digest(_PROBE - 1)
            if digest <= least:
                high, high_value = first, max(_prefix(least), value)
            elif digest > most:
                low, low_value = first + _PROBE, min(_prefix(most), value)
            else:
                return first + piece.leftmost(digest)
        while high - low > _PROBE:
            middle = (low + high) // 2
            if self._piece(bucket, middle, middle + 1).digest(0) < digest:
                low = middle + 1
            else:
                high = middle
        return low + self._piece(bucket, low, high).leftmost(digest)

    def _piece(self, bucket: Bucket, first: int, last: int) -> _Piece:
        width = bucket.width
        data = self._source.pread(bucket.start + first * width, (last - first) * width)
        return _Piece(data, width, bucket.digest_bytes)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A few neighbouring entries, read at once."""

    data: bytes
    width: int
    digest_bytes: int

    def digest(self, number: int) -> bytes:
        start = number * self.width
        return self.data[start : start + self.digest_bytes]

    def leftmost(self, digest: bytes) -> int:
        return bisect_left(range(len(self.data) // self.width), digest, key=self.digest)


class _BucketReader:
    """Reads bucket heads one after the other, hopping over the entries."""

    def __init__(self, source: ByteSource, cursor: int) -> None:
        self.buckets: list[Bucket] = []
        self.cursor = cursor
        self._source = source
        self._size = source.size
        self._ordinal = 0

    def read_count(self, what: str) -> int:
        (count,) = self._read(_COUNT)
        if count < 0:
            raise Malformed(
                f"index announces {count} {what}", source=self._source.name, offset=self.cursor - 4
            )
        if count > MAX_INDEX_BUCKETS:
            raise self._over(f"number of {what} in the index", count, MAX_INDEX_BUCKETS, 4)
        return int(count)

    def read_code(self) -> int:
        return int(self._read(_CODE)[0])

    def read_widths(self, hash_code: int | None) -> None:
        for _ in range(self.read_count("buckets")):
            if len(self.buckets) >= MAX_INDEX_BUCKETS:
                raise self._over(
                    "number of buckets in the index", len(self.buckets) + 1, MAX_INDEX_BUCKETS, 0
                )
            width, length = self._read(_BUCKET)
            at = self.cursor - _BUCKET.size
            if width > MAX_INDEX_WIDTH:
                raise self._over("width of an index entry", width, MAX_INDEX_WIDTH, _BUCKET.size)
            if width < OFFSET_BYTES or length % width:
                raise Malformed(
                    f"index bucket of {length} bytes with entries of {width}",
                    source=self._source.name,
                    offset=at,
                )
            if length > self._size - self.cursor:
                raise Truncated(
                    f"index bucket of {length} bytes is cut short", source=self._source.name, offset=at
                )
            count = length // width
            self.buckets.append(Bucket(hash_code, width - OFFSET_BYTES, self.cursor, count, self._ordinal))
            self._ordinal += count
            self.cursor += length

    def _read(self, form: struct.Struct) -> tuple[int, ...]:
        values = form.unpack(self._source.pread(self.cursor, form.size))
        self.cursor += form.size
        return values

    def _over(self, what: str, value: int, maximum: int, back: int) -> LimitExceeded:
        return LimitExceeded(what, value, maximum, source=self._source.name, offset=self.cursor - back)


@dataclass(frozen=True, slots=True)
class SortedBucket:
    """What :func:`write` is given: entries of one width, sorted by digest, in pieces."""

    hash_code: int
    digest_bytes: int
    count: int
    entries: Iterable[bytes]


def write(out: BinaryIO, codec: int, buckets: list[SortedBucket]) -> int:
    """Write an index section and answer its length in bytes; ``buckets`` in any order, one a width for INDEX_SORTED."""
    start = out.tell()
    out.write(varint.encode(codec))
    if codec == INDEX_SORTED:
        _write_widths(out, buckets)
    elif codec == MULTIHASH_INDEX_SORTED:
        by_code: dict[int, list[SortedBucket]] = {}  # a CAR may make up as many codes as it has blocks
        for bucket in buckets:
            by_code.setdefault(bucket.hash_code, []).append(bucket)
        out.write(_COUNT.pack(len(by_code)))
        for code in sorted(by_code):
            out.write(_CODE.pack(code))
            _write_widths(out, by_code[code])
    else:
        raise UnknownCodec(codec, "index codec")
    return out.tell() - start


def _write_widths(out: BinaryIO, buckets: list[SortedBucket]) -> None:
    out.write(_COUNT.pack(len(buckets)))
    for bucket in sorted(buckets, key=lambda one: one.digest_bytes):
        width = bucket.digest_bytes + OFFSET_BYTES
        out.write(_BUCKET.pack(width, bucket.count * width))
        for piece in bucket.entries:
            out.write(piece)


def _codec_at(source: ByteSource, start: int) -> tuple[int, int]:
    head = source.peek(start, 10)
    try:
        codec, cursor = varint.decode(head, 0, len(head))
    except (Truncated, Malformed) as error:
        raise error.located(source=source.name, shift=start) from None
    return codec, start + cursor


def _prefix(digest: bytes) -> int:
    return int.from_bytes(digest[:8].ljust(8, b"\0"), "big")
