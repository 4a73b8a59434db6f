"""The UnixFS ``Data`` message: what the Data field of a dag-pb node says about a file, directory, symlink or shard.

Source: IPFS specs, UnixFS (with mode and mtime, "1.5").  Unknown fields are skipped, as mode and mtime once were
by those who did not know them; a field that must stand once and stands twice is an error, as readers
would disagree on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from carlib import dagpb, protobuf
from carlib.blockstore import Blocks
from carlib.cid import Cid
from carlib.errors import LimitExceeded, Malformed, NotUnixFs
from carlib.limits import MAX_LINKS
from carlib.protobuf import BYTES, FIXED32, VARINT, Field
from carlib.varint import Buffer

MAX_FILE_BYTES: Final = (1 << 63) - 1
"""The size of one file: what off_t can hold."""
MAX_IDENTITY_BYTES: Final = 128
"""Data inside of a CID (IPIP-0512)."""
NS_PER_S: Final = 1_000_000_000


class DataType(IntEnum):
    """``Type`` of a UnixFS node."""

    RAW = 0
    DIRECTORY = 1
    FILE = 2
    METADATA = 3
    SYMLINK = 4
    HAMT_SHARD = 5


@dataclass(frozen=True, slots=True)
class Data:
    """A parsed message; None is an absent field.  ``mode`` has all 32 stored bits, permissions are the lower 12."""

    type: DataType
    data: Buffer | None = None
    filesize: int | None = None
    blocksizes: tuple[int, ...] = ()
    hash_type: int | None = None
    fanout: int | None = None
    mode: int | None = None
    mtime_ns: int | None = None

    @property
    def is_file(self) -> bool:
        return self.type in (DataType.FILE, DataType.RAW)

    @property
    def size(self) -> int:
        """Bytes of the file below a FILE or RAW node."""
        return (0 if self.data is None else len(self.data)) + sum(self.blocksizes)

    @classmethod
    def parse(cls, message: Buffer) -> Data:
        """The node that ``message`` describes; ``data`` is a view of it where ``message`` is a view.

        Raises Malformed, Truncated or LimitExceeded; offsets are positions in ``message``.
        """
        found: dict[str, int] = {}
        data: Buffer | None = None
        blocksizes: list[int] = []
        position, end = 0, len(message)
        while position < end:
            for field in protobuf.fields(message, position, end):
                position = field.stop
                name, wire = _FIELDS.get(field.number, ("", -1))
                if name == "blocksizes":
                    _add_blocksizes(blocksizes, field, message)
                    size = field.stop - field.start
                    if message[field.start : field.stop] == message[field.stop : field.stop + size]:
                        position = _repeat_blocksize(blocksizes, field, message)
                        break  # and on from there
                    continue
                if not name:
                    continue
                if field.wire != wire:
                    raise Malformed(f"wire type {field.wire} of {name}", offset=field.start)
                if name in found:
                    raise Malformed(f"a second {name}", offset=field.start)
                found[name] = field.value
                if name == "data":
                    data = message[field.start : field.stop]
                elif name == "mtime":
                    found[name] = _parse_mtime(message, field)
        return cls._checked(found, data, tuple(blocksizes))

    @classmethod
    def _checked(cls, found: dict[str, int], data: Buffer | None, blocksizes: tuple[int, ...]) -> Data:
        if "type" not in found:
            raise Malformed("UnixFS node without a type")
        try:
            kind = DataType(found["type"])
        except ValueError:
            raise Malformed(f"UnixFS type {found['type']} is unknown") from None
        mode = found.get("mode")
        if mode is not None and mode >> 32:
            raise Malformed(f"mode {mode:#o} has more than 32 bits")
        node = cls(
            kind,
            data,
            found.get("filesize"),
            blocksizes,
            found.get("hash_type"),
            found.get("fanout"),
            mode,
            found.get("mtime"),
        )
        if node.is_file:
            if node.size > MAX_FILE_BYTES:
                raise LimitExceeded("file size", node.size, MAX_FILE_BYTES)
            if node.filesize is not None and node.filesize != node.size:
                raise Malformed(f"file says {node.filesize} bytes, its parts have {node.size}")
        return node

    def encode(self) -> bytes:
        """The bytes of this message, fields in the order of their numbers, as go and js write it."""
        parts = [protobuf.encode_uint(0x08, self.type)]
        if self.data is not None:
            parts.append(protobuf.encode_bytes(0x12, self.data))
        if self.filesize is not None:
            parts.append(protobuf.encode_uint(0x18, self.filesize))
        parts += [protobuf.encode_uint(0x20, size) for size in self.blocksizes]
        if self.hash_type is not None:
            parts.append(protobuf.encode_uint(0x28, self.hash_type))
        if self.fanout is not None:
            parts.append(protobuf.encode_uint(0x30, self.fanout))
        if self.mode is not None:
            parts.append(protobuf.encode_uint(0x38, self.mode))
        if self.mtime_ns is not None:
            seconds, nanoseconds = divmod(self.mtime_ns, NS_PER_S)
            mtime = protobuf.encode_uint(0x08, seconds)
            if nanoseconds:
                mtime += b"\x15" + nanoseconds.to_bytes(4, "little")
            parts.append(protobuf.encode_bytes(0x42, mtime))
        return b"".join(parts)


_FIELDS: Final = {
    1: ("type", VARINT),
    2: ("data", BYTES),
    3: ("filesize", VARINT),
    4: ("blocksizes", VARINT),
    5: ("hash_type", VARINT),
    6: ("fanout", VARINT),
    7: ("mode", VARINT),
    8: ("mtime", BYTES),
}


def _add_blocksizes(sizes: list[int], field: Field, message: Buffer) -> None:
    """Append one size, or many where a writer packed them (protobuf readers must take both)."""
    if field.wire == VARINT:
        sizes.append(field.value)
    elif field.wire == BYTES:
        position = field.start
        while position < field.stop:
            value, position = protobuf.varint(message, position, field.stop)
            sizes.append(value)
    else:
        raise Malformed(f"wire type {field.wire} of blocksizes", offset=field.start)
    if len(sizes) > MAX_LINKS:
        raise LimitExceeded("number of blocksizes", len(sizes), MAX_LINKS, offset=field.start)


def _repeat_blocksize(sizes: list[int], field: Field, message: Buffer) -> int:
    """Append the last size as often as its field is repeated; the position after the last of these."""
    if field.wire != VARINT:
        return field.stop  # packed: start and stop are not those of the whole field
    size = field.stop - field.start
    more = protobuf.repeats(message, field.start, size, len(message)) - 1
    if len(sizes) + more > MAX_LINKS:
        raise LimitExceeded("number of blocksizes", len(sizes) + more, MAX_LINKS, offset=field.start)
    sizes += sizes[-1:] * more
    return field.stop + more * size


def _parse_mtime(message: Buffer, mtime: Field) -> int:
    seconds: int | None = None
    nanoseconds = 0
    for field in protobuf.fields(message, mtime.start, mtime.stop):
        if field.number == 1 and field.wire == VARINT:
            seconds = field.value - (1 << 64) if field.value >> 63 else field.value
        elif field.number == 2 and field.wire == FIXED32:
            nanoseconds = field.value
            if not 0 < nanoseconds < NS_PER_S:
                raise Malformed(f"mtime with {nanoseconds} nanoseconds", offset=field.start)
        elif field.number in (1, 2):
            raise Malformed(f"wire type {field.wire} in mtime", offset=field.start)
    if seconds is None:
        raise Malformed("mtime without seconds", offset=mtime.start)
    return seconds * NS_PER_S + nanoseconds


def fetch(blocks: Blocks, cid: Cid) -> Buffer:
    """The block of ``cid``; what an identity CID carries is read out of it, whatever the store holds."""
    if not cid.is_identity:
        return blocks.get(cid)
    digest = cid.digest
    if len(digest) > MAX_IDENTITY_BYTES:
        raise LimitExceeded("data inside of a CID", len(digest), MAX_IDENTITY_BYTES)
    return digest


def size_of(blocks: Blocks, cid: Cid) -> int:
    """Bytes of the block of ``cid``, which is not read."""
    return len(fetch(blocks, cid)) if cid.is_identity else blocks.size(cid)


def data_of(block: Buffer) -> Data | None:
    """The UnixFS node in a dag-pb ``block``; None if it has no Data, or the metadata type that nobody writes."""
    message = dagpb.data_of(block)
    if message is None:
        return None
    node = Data.parse(message)
    return None if node.type is DataType.METADATA else node


def refusal(cid: Cid, node: Data | None, wanted: str) -> NotUnixFs:
    """The error that says what ``cid`` is instead of ``wanted``."""
    what = "not a UnixFS node" if node is None else f"a UnixFS {node.type.name.lower().replace('_', ' ')}"
    return NotUnixFs(f"{cid} is {what}, not {wanted}")
