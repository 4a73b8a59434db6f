"""Making a segment out of shards' index files and of other segments; in a worker process, with bounded memory.

All sources are sorted, so the output is made range by range of the digest: the parts of all sources that fall into a
range of about `PIECE_ENTRIES` are copied together, sorted by numpy (150 million a second) and written. Sources are
mapped: if one is cut short meanwhile, that ends this process and the task fails.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import numpy as np
import numpy.typing as npt

from agent.dagstore.inverted.segment import (
    ALIGNMENT,
    MAX_DIGEST_BYTES,
    NUMBER_BYTES,
    Bucket,
    Directory,
    Member,
    trailer,
)
from carlib import durable
from carlib.errors import CarError, Malformed
from carlib.index import Index
from carlib.multihash import IDENTITY
from carlib.source import FileSource

PIECE_ENTRIES: Final = 1 << 18
"""Entries sorted at once: a few copies of 10 MB."""
_SAMPLE: Final = 2048
"""One in so many entries is looked at to cut the ranges."""
_PER_SLOT: Final = 4
"""Entries that a slot of the fan-out has at least on average; fewer than twice as many."""
_MAX_FAN_BITS: Final = 28
_MAX_COUNT: Final = 1 << 32
_GONE: Final = np.uint32(0xFFFFFFFF)
UNKNOWN_CODE: Final = -1

Bytes2D = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.uint32]
BucketKey = tuple[int, int]
Progress = Callable[[int, int], None]


class SourceFailed(Exception):
    """One of the sources is not what it should be; `source` is its place among them, `error` what is wrong."""

    def __init__(self, source: int, error: CarError | OSError) -> None:
        super().__init__((error.strerror if isinstance(error, OSError) else None) or str(error))
        self.source = source
        self.error = error


@dataclass(frozen=True, slots=True)
class Run:
    """Sorted entries of one source in one bucket."""

    source: int
    rows: Bytes2D
    digest_bytes: int
    numbers: Numbers
    """New number by old one; a single one where all entries are of one shard."""
    crc: int | None = None
    """What the CRC-32 of a segment's rows is due to be; None for an index file, whose rows end in offsets."""


class Source:
    """Where entries come from: an index file of one shard, or a segment."""

    def __init__(self, name: str, members: Sequence[Member], runs: dict[BucketKey, Run]) -> None:
        self.name = name
        self.members = members
        self.runs = runs

    @classmethod
    def of_index(cls, place: int, path: Path, member: Member, number: int) -> Source:
        """The index file of a shard, which becomes `number`; raises SourceFailed."""
        runs = {}
        try:
            with FileSource(path) as source:
                index = Index.open(source)
                for bucket in index.buckets:
                    code = UNKNOWN_CODE if bucket.hash_code is None else bucket.hash_code
                    if code == IDENTITY or not 0 < bucket.digest_bytes <= MAX_DIGEST_BYTES:
                        continue  # nobody looks for these
                    if bucket.count:
                        rows = _mapped(path, bucket.start, bucket.count, bucket.width)
                        numbers = np.array([number], np.uint32)
                        runs[code, bucket.digest_bytes] = Run(place, rows, bucket.digest_bytes, numbers)
        except (CarError, OSError) as error:
            raise SourceFailed(place, error) from error
        return cls(str(path), [member], runs)

    @classmethod
    def of_segment(cls, place: int, path: Path, directory: Directory, numbers: Numbers) -> Source:
        """A segment whose shards get new `numbers`, those that are gone `_GONE`."""
        runs = {
            (bucket.code, bucket.digest_bytes): Run(
                place,
                _mapped(path, bucket.offset, bucket.count, bucket.width),
                bucket.digest_bytes,
                numbers,
                bucket.crc,
            )
            for bucket in directory.buckets
        }
        members = [
            member for member, number in zip(directory.members, numbers, strict=True) if number != _GONE
        ]
        return cls(str(path), members, runs)


def renumbered(count: int, dead: Sequence[int], first: int) -> Numbers:
    """New numbers for the `count` shards of a segment, from `first` on, none for those that are dead."""
    live = np.ones(count, np.bool_)
    live[np.array(dead, np.int64)] = False
    numbers = (np.cumsum(live) - 1 + first).astype(np.uint32)
    numbers[~live] = _GONE
    return numbers


def build(
    out: Path, generation: int, sources: Sequence[Source], progress: Progress | None = None
) -> tuple[int, Directory]:
    """Writes the segment `out`, which appears complete and on disk or not at all; gives its size and directory.

    Raises SourceFailed, OSError.
    """
    members = [member for source in sources for member in source.members]
    total = sum(len(run.rows) for source in sources for run in source.runs.values())
    counts = np.zeros(len(members), np.int64)
    done = 0
    crc = 0
    with durable.replacing(out) as file:
        buckets = []
        for key in sorted({key for source in sources for key in source.runs}):
            runs = [source.runs[key] for source in sources if key in source.runs]
            writer = _BucketWriter(file, key, sum(len(run.rows) for run in runs))
            for piece in merged(runs):
                counts += writer.add(piece, len(members))
                if progress is not None:
                    progress(done + writer.count, total)
            done += sum(len(run.rows) for run in runs)
            bucket, fan = writer.finish()
            if bucket is not None:
                buckets.append(bucket)
                crc = zlib.crc32(fan, crc)
        counted = [
            msgspec.structs.replace(member, entries=int(count))
            for member, count in zip(members, counts, strict=True)
        ]
        directory = Directory(buckets, counted)
        text = msgspec.msgpack.encode(directory)
        at = file.tell()
        file.write(text)
        file.write(trailer(at, len(text), generation, zlib.crc32(text, crc)))
        size = file.tell()
    return size, directory


class _BucketWriter:
    """Writes the entries of a bucket piece by piece, then its fan-out."""

    def __init__(self, file: BinaryIO, key: BucketKey, at_most: int) -> None:
        if at_most >= _MAX_COUNT:
            raise OverflowError(f"{at_most} entries are more than one segment can hold")
        self._file = file
        self._code, self._digest_bytes = key
        self._bits = min(_MAX_FAN_BITS, max(0, (at_most // _PER_SLOT).bit_length() - 1))
        self._fan = np.zeros((1 << self._bits) + 1, np.uint32)
        self._offset = _align(file)
        self._crc = 0
        self.count = 0

    def add(self, piece: Bytes2D, shards: int) -> npt.NDArray[np.int64]:
        """Writes sorted entries; gives how many each of the shards has of them."""
        if not len(piece):
            return np.zeros(shards, np.int64)
        self._file.write(piece.data)
        self._crc = zlib.crc32(piece.data, self._crc)
        self.count += len(piece)
        slots = prefixes(piece, self._digest_bytes) >> np.uint64(64 - self._bits) if self._bits else None
        if slots is None:
            self._fan[1] += len(piece)
        else:
            first = int(slots[0])
            found = np.bincount((slots - np.uint64(first)).astype(np.int64))
            self._fan[first + 1 : first + 1 + len(found)] += found.astype(np.uint32)
        return np.bincount(_numbers(piece, self._digest_bytes), minlength=shards)

    def finish(self) -> tuple[Bucket | None, bytes]:
        """The bucket, None if nothing was added, and its fan-out."""
        if not self.count:
            return None, b""
        fan = np.cumsum(self._fan, dtype=np.uint32).tobytes()
        at = _align(self._file)
        self._file.write(fan)
        _align(self._file)
        return Bucket(
            self._code, self._digest_bytes, self._offset, self.count, at, self._bits, self._crc
        ), fan


def merged(runs: Sequence[Run]) -> Iterator[Bytes2D]:
    """The entries of all `runs` in order, each pair of digest and shard once, in pieces; raises SourceFailed."""
    fences = _fences(runs)
    readers = [_Reader(run, fences) for run in runs]
    for number in range(len(fences) + 1):
        parts = [part for reader in readers for part in reader.read(number)]
        if parts:
            yield _sorted_piece(parts, runs[0].digest_bytes)
    for reader in readers:
        reader.finish()


def _fences(runs: Sequence[Run]) -> npt.NDArray[np.bytes_]:
    """Digests that cut all entries into ranges of about `PIECE_ENTRIES`."""
    digest_bytes = runs[0].digest_bytes
    samples = [np.ascontiguousarray(run.rows[::_SAMPLE, :digest_bytes]) for run in runs]
    digests = np.sort(np.concatenate(samples).view(f"S{digest_bytes}").reshape(-1))
    if sum(len(run.rows) for run in runs) <= PIECE_ENTRIES:
        digests = digests[:0]
    return np.unique(digests[:: max(1, PIECE_ENTRIES // _SAMPLE)][1:])


class _Reader:
    """One run, read range by range and looked at on the way: is it sorted, is it what its checksum says?"""

    def __init__(self, run: Run, fences: npt.NDArray[np.bytes_]) -> None:
        self._run = run
        # Of one type on both sides: numpy would copy the whole run to bring them together.
        whole = run.rows.view(f"S{run.rows.shape[1]}").reshape(-1)
        self._cuts = [0, *np.searchsorted(whole, fences.astype(whole.dtype)).tolist(), len(run.rows)]
        self._last = b""
        self._crc = 0

    def read(self, number: int) -> Iterator[Bytes2D]:
        """The entries of range `number` as they will stand in the segment, in windows."""
        stop = self._cuts[number + 1]
        for first in range(self._cuts[number], stop, PIECE_ENTRIES):
            yield self._window(self._run.rows[first : min(stop, first + PIECE_ENTRIES)])

    def finish(self) -> None:
        if self._run.crc is not None and self._crc != self._run.crc:
            raise self._failed("the checksum of its entries is wrong")

    def _window(self, rows: Bytes2D) -> Bytes2D:
        run = self._run
        size = run.digest_bytes
        if run.crc is not None:
            self._crc = zlib.crc32(np.ascontiguousarray(rows).data, self._crc)
        again = self._checked_order(rows)
        if run.crc is None:  # an index file
            numbers = np.broadcast_to(run.numbers, len(rows))
            keep = ~again
        else:
            old = _numbers(rows, size)
            if int(old.max()) >= len(run.numbers):
                raise self._failed("it speaks of a shard that it does not know")
            numbers = run.numbers[old]
            keep = numbers != _GONE
        if not keep.all():
            rows, numbers = rows[keep], numbers[keep]
        entries = np.empty((len(rows), size + NUMBER_BYTES), np.uint8)
        entries[:, :size] = rows[:, :size]
        entries[:, size:] = np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, NUMBER_BYTES)
        return entries

    def _checked_order(self, rows: Bytes2D) -> npt.NDArray[np.bool_]:
        """Which rows have the digest of the row before; raises SourceFailed if one has a smaller one."""
        size = self._run.digest_bytes
        order = prefixes(rows, size)
        again = np.zeros(len(rows), np.bool_)
        wrong = bool((order[1:] < order[:-1]).any()) or rows[0, :size].tobytes() < self._last
        ties = np.flatnonzero(order[1:] == order[:-1])
        if ties.size:
            left = np.ascontiguousarray(rows[ties, :size]).view(f"S{size}").reshape(-1)
            right = np.ascontiguousarray(rows[ties + 1, :size]).view(f"S{size}").reshape(-1)
            wrong = wrong or bool((right < left).any())
            again[ties[left == right] + 1] = True
        if wrong:
            raise self._failed("its entries are not in order")
        self._last = rows[-1, :size].tobytes()
        return again

    def _failed(self, what: str) -> SourceFailed:
        return SourceFailed(self._run.source, Malformed(what))


def _sorted_piece(parts: list[Bytes2D], digest_bytes: int) -> Bytes2D:
    """The entries of all parts by digest, none twice; equal digests stay in the order of the parts."""
    entries = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if len(entries) < 2:
        return entries
    order = prefixes(entries, digest_bytes)
    if len(parts) > 1:
        places = _stable_order(order)
        width = entries.shape[1]
        # As opaque values: a row is then one copy of its bytes.
        entries = entries.view(f"V{width}").reshape(-1).take(places).view(np.uint8).reshape(-1, width)
        order = order.take(places)
    ties = np.flatnonzero(order[1:] == order[:-1])
    if not ties.size:
        return entries
    if digest_bytes > 8 and (entries[ties, 8:digest_bytes] != entries[ties + 1, 8:digest_bytes]).any():
        digests = np.ascontiguousarray(entries[:, :digest_bytes]).view(f"S{digest_bytes}").reshape(-1)
        entries = entries[np.argsort(digests, kind="stable")]
        ties = np.flatnonzero((entries[1:, :8] == entries[:-1, :8]).all(axis=1))
    twice = ties[(entries[ties] == entries[ties + 1]).all(axis=1)]
    return np.delete(entries, twice, axis=0) if twice.size else entries


def _stable_order(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """What `argsort(kind="stable")` gives, at twice the speed for values that are spread: their places go into their
    low bits, and numbers are sorted instead of places."""
    bits = np.uint64((len(values) - 1).bit_length())
    common = 64 - int(values.min() ^ values.max()).bit_length()
    packed = values << np.uint64(min(common, 63)) >> bits << bits | np.arange(len(values), dtype=np.uint64)
    packed.sort()
    places = (packed & (np.uint64(1) << bits) - np.uint64(1)).astype(np.int64)
    ordered = values[places]
    if (ordered[1:] < ordered[:-1]).any():  # they differ only in the bits that were given up
        return np.argsort(values, kind="stable")
    return places


def prefixes(rows: Bytes2D, digest_bytes: int) -> npt.NDArray[np.uint64]:
    """The first eight bytes of each digest, zeros behind a shorter one, as a number that sorts as they do."""
    if digest_bytes >= 8:
        first = np.ascontiguousarray(rows[:, :8])
    else:
        first = np.zeros((len(rows), 8), np.uint8)
        first[:, :digest_bytes] = rows[:, :digest_bytes]
    return first.view(">u8").reshape(-1).astype(np.uint64)


def _numbers(rows: Bytes2D, digest_bytes: int) -> Numbers:
    return (
        np.ascontiguousarray(rows[:, digest_bytes : digest_bytes + NUMBER_BYTES]).view(np.uint32).reshape(-1)
    )


def _mapped(path: Path, offset: int, count: int, width: int) -> Bytes2D:
    return np.memmap(path, np.uint8, "r", offset, (count, width))


def _align(file: BinaryIO) -> int:
    """Writes zeros up to the next multiple of `ALIGNMENT`; gives the position."""
    file.write(bytes(-file.tell() % ALIGNMENT))
    return file.tell()
