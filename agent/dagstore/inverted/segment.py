"""A segment: an immutable, sorted file of (digest, shard) pairs, searched where it lies.

    per bucket (hash code, digest size), ascending, each part at a multiple of 64:
        entries   digest | u32 number of the shard in this segment; sorted by digest, no pair twice
        fan-out   u32[2**bits + 1]: number of the first entry of each slot; an entry's slot is the first `bits` bits
                  of its digest, so that a look-up touches one page here and one or two of the entries
    directory     msgpack of `Directory`: where the buckets lie, and the table of shards
    trailer       48 bytes: offset and length of the directory, generation, CRC-32 of fan-outs and directory, version,
                  byte order mark, 0, magic

Integers outside of msgpack are in the machine's own byte order, which the mark tells: a segment from a machine of the
other order counts as damaged, and is made anew like any other that is.

Segments are mapped, where CARs and their indices are read (docs/decisions/0002-pread-not-mmap.md): a mapped page that
is gone ends the process by SIGBUS. That cannot come from another program's carelessness here. The files are ours, in a
folder of ours. They are opened for reading only; they get their names when they are complete and on disk; they are
unlinked and never truncated or written to again, and a mapping outlives its name. A file that a crash, a full disk or
a bad copy has cut short fails the comparison with the size in the manifest before it is mapped, and its head, fan-outs
and directory fail their checksum. The checksums of the entries are looked at whenever a segment is merged or checked.
What is left is a disk that cannot read a page of ours back. In return a look-up takes 1 µs where `pread` takes 3, and
the memory is the kernel's, which takes it back when it needs it.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import zlib
from array import array
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

MAGIC: Final = b"carfsinv"
VERSION: Final = 1
NUMBER_BYTES: Final = 4
"""Bytes of a shard's number behind each digest."""
ALIGNMENT: Final = 64
MAX_DIGEST_BYTES: Final = 128
"""Longer ones are identities or nonsense: no hash function that can verify a block gives them."""
_ORDER_MARK: Final = 0x01020304
_TRAILER: Final = struct.Struct("=QQQIIII8s")
_LONG: Final = 1024
"""Entries of a slot from which on it is bisected: digests that are no digests may all begin alike."""


class Damaged(Exception):
    """The file is not the segment that it should be; what was in it must be made anew."""


class Bucket(msgspec.Struct, frozen=True, array_like=True):
    """Entries of one hash function and width; offsets from the start of the file."""

    code: int  # of the hash function, -1 where the shard's index does not tell
    digest_bytes: int
    offset: int
    count: int
    fan_offset: int
    fan_bits: int
    crc: int  # CRC-32 of the entries

    @property
    def width(self) -> int:
        return self.digest_bytes + NUMBER_BYTES

    @property
    def shift(self) -> int:
        """What turns the first four bytes of a digest into its slot."""
        return 32 - self.fan_bits


class Member(msgspec.Struct, frozen=True, array_like=True):
    """A shard that the segment speaks of; its number is its place in the table."""

    key: str
    generation: int
    checksum: str  # of the index file that its entries are from
    entries: int


class Directory(msgspec.Struct, frozen=True, array_like=True):
    """What stands at the end of a segment."""

    buckets: list[Bucket]
    members: list[Member]


class Table(NamedTuple):
    """One bucket as the search needs it."""

    data: mmap.mmap
    fan: memoryview
    shift: int
    base: int
    keys: list[str | None]


def trailer(directory_offset: int, directory_size: int, generation: int, crc: int) -> bytes:
    """The last bytes of a segment."""
    return _TRAILER.pack(directory_offset, directory_size, generation, crc, VERSION, _ORDER_MARK, 0, MAGIC)


def read_directory(data: mmap.mmap, generation: int) -> Directory:
    """The directory of a mapped segment; raises Damaged unless all but the entries is whole and of `generation`."""
    if len(data) < _TRAILER.size:
        raise Damaged(f"{len(data)} bytes are no segment")
    at, size, of, crc, version, mark, _, magic = _TRAILER.unpack(data[-_TRAILER.size :])
    if magic != MAGIC or mark != _ORDER_MARK:
        raise Damaged("it is no segment, or one of a machine with another byte order")
    if version != VERSION:
        raise Damaged(f"it is of version {version}, we write {VERSION}")
    if of != generation:
        raise Damaged(f"it is of generation {of}, the manifest says {generation}")
    if at + size + _TRAILER.size != len(data):
        raise Damaged("its directory is not where it should be")
    try:
        directory = msgspec.msgpack.decode(data[at : at + size], type=Directory)
    except msgspec.MsgspecError as error:
        raise Damaged(f"its directory cannot be read: {error}") from error
    found = 0
    with memoryview(data) as view:
        for bucket in directory.buckets:
            if not _fits(bucket, at):
                raise Damaged("its directory points outside of it")
            with view[bucket.fan_offset : bucket.fan_offset + _fan_bytes(bucket)] as fan:
                found = zlib.crc32(fan, found)
        with view[at : at + size] as rest:
            found = zlib.crc32(rest, found)
    if found != crc:
        raise Damaged("the checksum of its directory is wrong")
    return directory


def _fan_bytes(bucket: Bucket) -> int:
    return 4 * ((1 << bucket.fan_bits) + 1)


def _fits(bucket: Bucket, end: int) -> bool:
    sane = 0 < bucket.digest_bytes <= MAX_DIGEST_BYTES and 0 <= bucket.fan_bits <= 32 and bucket.count > 0
    return (
        sane
        and bucket.offset >= 0
        and bucket.offset + bucket.count * bucket.width <= bucket.fan_offset
        and bucket.fan_offset + _fan_bytes(bucket) <= end
    )


def mapped(path: Path, size: int) -> mmap.mmap:
    """The file, mapped for reading; raises Damaged unless it is there and has `size` bytes."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise Damaged(f"it cannot be opened: {error.strerror}") from error
    try:
        found = os.fstat(fd).st_size
        if found != size or size == 0:
            raise Damaged(f"it has {found} bytes, not {size}")
        return mmap.mmap(fd, size, prot=mmap.PROT_READ)
    except OSError as error:
        raise Damaged(f"it cannot be mapped: {error.strerror}") from error
    finally:
        os.close(fd)


class Segment:
    """A mapped segment; `keys` says whose entries count: None for a shard that is gone."""

    def __init__(self, name: str, generation: int, data: mmap.mmap, directory: Directory) -> None:
        self.name = name
        self.generation = generation
        self.size = len(data)
        self.keys: list[str | None] = [None] * len(directory.members)
        self.counts = array("Q", (member.entries for member in directory.members))
        self.entries = sum(bucket.count for bucket in directory.buckets)
        self.dead = self.entries  # of them, those whose shard is gone
        self.tables = {
            (bucket.code, bucket.digest_bytes): self._table(data, bucket) for bucket in directory.buckets
        }

    @classmethod
    def open(cls, path: Path, size: int, generation: int) -> tuple[Segment, list[Member]]:
        """The segment, in which no shard counts yet, and its shards; raises Damaged."""
        data = mapped(path, size)
        data.madvise(mmap.MADV_RANDOM)  # a look-up wants two pages, not the 32 that would be read ahead
        directory = read_directory(data, generation)
        return cls(path.name, generation, data, directory), directory.members

    def _table(self, data: mmap.mmap, bucket: Bucket) -> Table:
        fan = memoryview(data)[bucket.fan_offset : bucket.fan_offset + _fan_bytes(bucket)].cast("I")
        return Table(data, fan, bucket.shift, bucket.offset, self.keys)

    def revive(self, number: int, key: str) -> None:
        """From now on the entries of this shard count, as those of `key`."""
        self.keys[number] = key
        self.dead -= self.counts[number]

    def kill(self, number: int) -> None:
        """From now on the entries of this shard do not count."""
        if self.keys[number] is not None:
            self.keys[number] = None
            self.dead += self.counts[number]


def search(tables: tuple[Table, ...], digest: bytes) -> list[str]:
    """The keys of the shards with that digest; `tables` are of its hash function and size.

    Never waits but for the page cache: two or three pages a table. This is the hot path: 1 µs a table.
    """
    found: list[str] = []
    size = len(digest)
    width = size + NUMBER_BYTES
    prefix = int.from_bytes(digest[:4] if size >= 4 else digest.ljust(4, b"\0"), "big")
    for data, fan, shift, base, keys in tables:
        slot = prefix >> shift
        first, last = fan[slot], fan[slot + 1]
        if last - first > _LONG:
            first, last = _bisected(data, base, digest, first, last)
        # A copy of some hundred bytes, since bytes.find is many times as fast as mmap.find.
        piece = data[base + first * width : base + last * width]
        at = piece.find(digest)
        while at >= 0:
            if at % width:
                at = piece.find(digest, at + 1)
                continue
            key = keys[int.from_bytes(piece[at + size : at + width], sys.byteorder)]
            if key is not None:
                found.append(key)
            at = piece.find(digest, at + width)
    return found


def _bisected(data: mmap.mmap, base: int, digest: bytes, first: int, last: int) -> tuple[int, int]:
    """The entries from `first` to `last` that have the digest, by bisection."""
    size = len(digest)
    width = size + NUMBER_BYTES
    ends = []
    for after in (False, True):
        low, high = first, last
        while low < high:
            middle = (low + high) // 2
            at = base + middle * width
            here = data[at : at + size]
            if here < digest or (after and here == digest):
                low = middle + 1
            else:
                high = middle
        ends.append(low)
    return ends[0], ends[1]
