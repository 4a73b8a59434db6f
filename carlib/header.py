"""CARv1 and CARv2 headers: bytes to values and back.

Source: CARv1, Header; CARv2, Pragma and Header; the table of what other tools accept in the project's format notes.
Strict (the default) refuses what dag-cbor forbids; lenient takes what go-car takes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import cbor2

from carlib import dagcbor, varint
from carlib.cid import Cid
from carlib.errors import CarError, LimitExceeded, Malformed, Truncated
from carlib.limits import MAX_HEADER_BYTES, MAX_ROOTS
from carlib.varint import Buffer

PRAGMA: Final = bytes.fromhex("0aa16776657273696f6e02")
"""The first 11 bytes of every CARv2: a CARv1 header that says version 2."""
V2_HEADER_BYTES: Final = 40
V2_PREFIX_BYTES: Final = len(PRAGMA) + V2_HEADER_BYTES
"""Bytes before the data payload of an unpadded CARv2."""
FULLY_INDEXED: Final = 1 << 127
"""Characteristics bit: the index lists every section, identity CIDs too."""


@dataclass(frozen=True, slots=True)
class V1Header:
    """Roots of a CARv1 payload; ``length`` is that of the header with its length varint, in bytes."""

    roots: tuple[Cid, ...]
    length: int = field(compare=False, default=0)

    def encode(self) -> bytes:
        """Length varint and dag-cbor, as go-car writes it."""
        body = dagcbor.encode({"roots": list(self.roots), "version": 1})
        return varint.encode(len(body)) + body


@dataclass(frozen=True, slots=True)
class V2Header:
    """The 40 bytes after the pragma; offsets from the start of the file, ``index_offset`` 0 where there is no index."""

    data_offset: int
    data_size: int
    index_offset: int = 0
    characteristics: int = 0

    @property
    def fully_indexed(self) -> bool:
        return bool(self.characteristics & FULLY_INDEXED)

    def with_fully_indexed(self) -> Self:
        return replace(self, characteristics=self.characteristics | FULLY_INDEXED)

    def encode(self) -> bytes:
        return self.characteristics.to_bytes(16, "big") + struct.pack(
            "<QQQ", self.data_offset, self.data_size, self.index_offset
        )

    @classmethod
    def parse(cls, buffer: Buffer, *, file_size: int | None = None) -> Self:
        """The header in the 40 bytes of ``buffer``; errors name offsets from the start of the file.

        A header of zeros is that of a writer that never finished.  With ``file_size``, data past it is Truncated.
        """
        if len(buffer) < V2_HEADER_BYTES:
            raise Truncated("data ends inside the CARv2 header", offset=len(PRAGMA))
        characteristics = int.from_bytes(buffer[:16], "big")
        data_offset, data_size, index_offset = struct.unpack_from("<QQQ", buffer, 16)
        if not any(buffer[:V2_HEADER_BYTES]):
            raise Malformed("CARv2 was not finalised: its header is empty", offset=len(PRAGMA))
        for name, at, value, least in (
            ("data offset", 27, data_offset, V2_PREFIX_BYTES),
            ("data size", 35, data_size, 1),
            ("index offset", 43, index_offset, 0),
        ):
            if not least <= value < 1 << 63:
                raise Malformed(f"CARv2 {name} is out of range: {value}", offset=at)
        if file_size is not None and data_offset + data_size > file_size:
            raise Truncated(
                f"CARv2 payload ends at {data_offset + data_size}, the file at {file_size}",
                offset=len(PRAGMA),
            )
        return cls(data_offset, data_size, index_offset, characteristics)


def version(buffer: Buffer, *, complete: bool = False) -> int | None:
    """1 or 2, or None where ``buffer`` (the start of a file) is too short to tell; Malformed for anything else."""
    if bytes(buffer[: len(PRAGMA)]) == PRAGMA:
        return 2
    try:
        length, start = header_length(buffer)
    except Truncated:
        if complete:
            raise
        return None
    if len(buffer) < start + length:
        if complete:
            raise Truncated("data ends inside the header", offset=0)
        return None
    _fields(buffer, start, start + length, strict=False)
    return 1


def header_length(buffer: Buffer) -> tuple[int, int]:
    """Bytes of the CARv1 header that begins ``buffer`` and where it starts, its limit checked; Truncated if cut."""
    length, start = varint.decode(buffer, 0, len(buffer))
    if length > MAX_HEADER_BYTES:
        raise LimitExceeded("header length", length, MAX_HEADER_BYTES, offset=0)
    if length == 0:
        raise Malformed("header is empty", offset=0)
    return length, start


def parse_v1(buffer: Buffer, *, strict: bool = True) -> V1Header:
    """The CARv1 header at the start of ``buffer``; Truncated where more bytes are needed."""
    length, start = header_length(buffer)
    end = start + length
    if end > len(buffer):
        raise Truncated("data ends inside the header", offset=0)
    roots = _fields(buffer, start, end, strict=strict).get("roots")
    if not isinstance(roots, list):
        raise Malformed("header has no list of roots", offset=start)
    if len(roots) > MAX_ROOTS:
        raise LimitExceeded("number of roots", len(roots), MAX_ROOTS, offset=start)
    if not all(isinstance(root, Cid) for root in roots):
        raise Malformed("a root in the header is not a CID", offset=start)
    return V1Header(tuple(roots), end)


def _fields(buffer: Buffer, start: int, end: int, *, strict: bool) -> dict[str, Any]:
    """The header's map with a version that is 1; any other is Malformed."""
    body = bytes(buffer[start:end])
    try:
        fields = dagcbor.decode(body)
    except CarError as error:
        if strict and not _keys_swapped(body):
            raise error.located(shift=start) from None
        fields = _lenient(body, start)
    if not isinstance(fields, dict):
        raise Malformed("header is not a map", offset=start)
    number = fields.get("version")
    if type(number) is not int:
        raise Malformed(f"header has no version number: {number!r}", offset=start)
    if number != 1:
        raise Malformed(f"CAR version {number} is not supported", offset=start)
    if unknown := fields.keys() - {"roots", "version"}:
        raise Malformed(f"header has unknown keys: {', '.join(sorted(map(str, unknown)))}", offset=start)
    return fields


def _keys_swapped(body: bytes) -> bool:
    """Whether the one fault is ``version`` before ``roots``: both reference readers take it, so do we."""
    fields = _lenient(body, 0)
    if not isinstance(fields, dict) or list(fields) != ["version", "roots"]:
        return False
    try:
        encoded = dagcbor.encode(fields)
    except (TypeError, ValueError):
        return False
    return sorted(encoded) == sorted(body)


def _lenient(body: bytes, start: int) -> Any:
    try:
        return cbor2.loads(body, tag_hook=_root)
    except CarError as error:
        raise error.located(shift=start) from None
    except Exception as error:  # cbor2 raises its own family, ValueError, TypeError, MemoryError by input
        raise Malformed(f"header is not CBOR: {error}", offset=start) from None


def _root(tag: cbor2.CBORTag, _immutable: bool) -> Cid:
    if tag.tag != dagcbor.LINK_TAG or not isinstance(tag.value, bytes):
        raise Malformed(f"CBOR tag {tag.tag} in the header is not a CID")
    if tag.value[:1] != b"\0":
        raise Malformed("root does not begin with the identity multibase")
    return Cid.parse(tag.value[1:])
