"""Which chunks of a transient are there: the map file beside its sparse data file, read by any process, written by one.

    0    magic "carfsmap", u16 version, u16 flags (1: only whole, from the start), u32 bytes a chunk, u64 bytes of the
         data (all little-endian)
    24   sha2-256 of the data's fingerprint; 56 boot id, 16 bytes; 72 crc32 of everything before
    128  u64 drops: how often chunks were taken back
    256  a bit a chunk, the lowest of a byte first: its bytes are in the data file
    …    as many bits again: and they were on disk when this was written

A bit is written after the bytes that it speaks of, so a kill at any instant leaves nothing that is wrong: what the
kernel was given it keeps. A power cut is another matter: after one, which a new boot id tells, only the second half is
believed. Imported by workers and the mount: no trio here.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from carlib import durable
from carlib.limits import KIB

CHUNK_BYTES: Final = 64 * KIB
"""Of new transients. A round trip of 20 ms carries 64 KiB at 3 MB/s and 4 MiB at 200: small enough for a look at one
block, and neighbours are asked for in one request."""
_HEAD = struct.Struct("<8sHHIQ32s16s")
_CRC = struct.Struct("<I")
_DROPS = struct.Struct("<Q")
_MAGIC: Final = b"carfsmap"
_VERSION: Final = 1
_DROPS_AT: Final = 128
_BITS_AT: Final = 256
MAX_DATA_BYTES: Final = 1 << 50
"""Nobody has a CAR of a petabyte; a map that says so is damaged."""


class MapDamaged(Exception):
    """The file is no map, or not one that this version reads: what it stands for is fetched anew."""


@dataclass(frozen=True, slots=True)
class MapHead:
    """What a map says about its data file; `size` in bytes."""

    size: int
    chunk_bytes: int
    fingerprint: bytes  # sha2-256
    boot: bytes  # 16 bytes
    whole: bool = False  # whoever has the data gives no ranges of it

    @property
    def chunks(self) -> int:
        return -(-self.size // self.chunk_bytes)

    @property
    def half_bytes(self) -> int:
        """Bytes that a bit for each chunk takes."""
        return (self.chunks + 7) // 8

    @property
    def file_bytes(self) -> int:
        return _BITS_AT + 2 * self.half_bytes

    def encode(self) -> bytes:
        head = _HEAD.pack(
            _MAGIC, _VERSION, self.whole, self.chunk_bytes, self.size, self.fingerprint, self.boot
        )
        return (head + _CRC.pack(zlib.crc32(head))).ljust(_BITS_AT, b"\0")

    @classmethod
    def parse(cls, data: bytes) -> MapHead:
        """From the first bytes of a map file; raises MapDamaged."""
        if len(data) < _HEAD.size + _CRC.size:
            raise MapDamaged(f"a map of {len(data)} bytes")
        magic, version, flags, chunk_bytes, size, fingerprint, boot = _HEAD.unpack_from(data)
        if magic != _MAGIC or _CRC.unpack_from(data, _HEAD.size)[0] != zlib.crc32(data[: _HEAD.size]):
            raise MapDamaged("not a map, or a damaged one")
        if version != _VERSION:
            raise MapDamaged(f"a map of version {version}; this carfs reads {_VERSION}")
        if not (0 < chunk_bytes <= 1 << 30 and size <= MAX_DATA_BYTES):
            raise MapDamaged(f"a map of {size} bytes in chunks of {chunk_bytes}")
        return cls(size, chunk_bytes, fingerprint, boot, bool(flags & 1))

    def range_of(self, offset: int, length: int) -> tuple[int, int]:
        """The chunks that hold these bytes: the first, and the one behind the last."""
        first = offset // self.chunk_bytes
        return first, max(first, -(-(offset + length) // self.chunk_bytes))

    def bytes_of(self, first: int, stop: int) -> int:
        """Bytes in these chunks; the last one of the data may be short."""
        return max(0, min(stop * self.chunk_bytes, self.size) - first * self.chunk_bytes)


class MapReader:
    """A map as another process sees it, at every call anew; used from several threads."""

    def __init__(self, path: Path) -> None:
        """Raises MapDamaged, OSError."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.head = MapHead.parse(os.pread(self._fd, _BITS_AT, 0))
        except BaseException:
            self.close()
            raise

    def drops(self) -> int:
        """Has changed if any chunk was taken back since: bytes that were read meanwhile may be no bytes of the data."""
        return int.from_bytes(os.pread(self._fd, _DROPS.size, _DROPS_AT), "little")

    def holds(self, offset: int, length: int) -> bool:
        """Whether all of these bytes are in the data file."""
        first, stop = self.head.range_of(offset, length)
        if first >= stop:
            return True
        low = first >> 3
        return all_set(
            os.pread(self._fd, ((stop - 1) >> 3) + 1 - low, _BITS_AT + low), first & 7, stop - first
        )

    def close(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which chunks were there at one moment."""

    present: bytes
    drops: int


class MapWriter:
    """The one writer's map: `present` and `durable` are the two halves, in memory as in the file."""

    def __init__(
        self, fd: int, head: MapHead, present: bytearray, durable_half: bytearray, drops: int
    ) -> None:
        self._fd = fd
        self.head = head
        self.present = present
        self.durable = durable_half
        self._drops = drops

    @classmethod
    def create(cls, path: Path, head: MapHead, present: bytes | None = None) -> Self:
        """A map at `path`, complete and on disk, in the place of what was there; `present` is on disk already.

        Raises OSError."""
        half = bytes(head.half_bytes) if present is None else present
        with durable.replacing(path, mode=0o644) as file:
            file.write(head.encode())
            file.write(half + half)
        return cls(os.open(path, os.O_RDWR | os.O_CLOEXEC), head, bytearray(half), bytearray(half), 0)

    @classmethod
    def open(cls, path: Path, boot: bytes) -> Self:
        """The map at `path`; from another boot, as far as it was durable then. Raises MapDamaged, OSError."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            head = MapHead.parse(os.pread(fd, _BITS_AT, 0))
            if os.fstat(fd).st_size != head.file_bytes:
                raise MapDamaged(f"the map has {os.fstat(fd).st_size} bytes where {head.file_bytes} are due")
            halves = os.pread(fd, 2 * head.half_bytes, _BITS_AT)
            present, lasting = halves[: head.half_bytes], halves[head.half_bytes :]
            (drops,) = _DROPS.unpack(os.pread(fd, _DROPS.size, _DROPS_AT))
        except BaseException:
            os.close(fd)
            raise
        if head.boot == boot:
            return cls(fd, head, bytearray(present), bytearray(lasting), drops)
        os.close(fd)
        return cls.create(path, replace(head, boot=boot), lasting)

    @property
    def links(self) -> int:
        """How many names the file has: none once it was removed."""
        return os.fstat(self._fd).st_nlink

    def set(self, first: int, stop: int) -> None:
        """These chunks are in the data file; raises OSError."""
        for chunk in range(first, stop):
            self.present[chunk >> 3] |= 1 << (chunk & 7)
        self._write(self.present, first, stop, 0)

    def drop(self, first: int, stop: int) -> None:
        """Takes these chunks back, and says so to readers before anybody writes over them; raises OSError."""
        for half, base in ((self.present, 0), (self.durable, self.head.half_bytes)):
            for chunk in range(first, stop):
                half[chunk >> 3] &= ~(1 << (chunk & 7)) & 0xFF
            self._write(half, first, stop, base)
        self._drops += 1
        os.pwrite(self._fd, _DROPS.pack(self._drops), _DROPS_AT)
        os.fdatasync(self._fd)

    def snapshot(self) -> Snapshot:
        """What is there now, for `settle`."""
        return Snapshot(bytes(self.present), self._drops)

    def settle(self, on_disk: Snapshot) -> None:
        """The data of `on_disk` was put on disk since; nothing is said of it where chunks were taken back meanwhile.

        Raises OSError."""
        if on_disk.drops != self._drops:
            return
        both = int.from_bytes(self.durable, "little") | int.from_bytes(on_disk.present, "little")
        self.durable = bytearray(both.to_bytes(self.head.half_bytes, "little"))
        os.pwrite(self._fd, self.durable, _BITS_AT + self.head.half_bytes)

    def close(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _write(self, half: bytearray, first: int, stop: int, base: int) -> None:
        if first < stop:
            low, high = first >> 3, ((stop - 1) >> 3) + 1
            os.pwrite(self._fd, half[low:high], _BITS_AT + base + low)


def all_set(bits: bytes, skip: int, count: int) -> bool:
    """Whether `count` bits from bit `skip` on are all set."""
    wanted = ((1 << count) - 1) << skip
    return int.from_bytes(bits, "little") & wanted == wanted


def is_set(bits: bytes | bytearray, chunk: int) -> bool:
    return bool(bits[chunk >> 3] >> (chunk & 7) & 1)


def bytes_present(head: MapHead, bits: bytes | bytearray) -> int:
    """Bytes of the chunks whose bits are set."""
    count = int.from_bytes(bits, "little").bit_count()
    last_is_short = head.chunks > 0 and is_set(bits, head.chunks - 1)
    return count * head.chunk_bytes - (head.chunks * head.chunk_bytes - head.size if last_is_short else 0)


def boot_id() -> bytes:
    """16 bytes that differ from one boot of the machine to the next."""
    text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    return bytes.fromhex(text.strip().replace("-", ""))
