"""Telling CARv1 from CARv2 and finding the payload; what every reader of a file begins with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from carlib import header
from carlib.cid import Cid
from carlib.errors import CarError, LimitExceeded, Malformed
from carlib.header import PRAGMA, V2_HEADER_BYTES, V2Header
from carlib.limits import KIB, MAX_HEADER_BYTES, MAX_VARINT_BYTES
from carlib.source import ByteSource

_FIRST_READ: Final = 4 * KIB


@dataclass(frozen=True, slots=True)
class Container:
    """A CAR's frame; offsets in bytes from the start of the file."""

    version: int
    roots: tuple[Cid, ...]
    data_offset: int
    """Where the CARv1 payload begins: 0 in a CARv1."""
    data_size: int
    """Bytes of the payload, padding included: up to the end of the file in a CARv1."""
    first_section: int
    index_offset: int = 0
    characteristics: int = 0
    missing: int = 0
    """Bytes that a CARv2 header announces past the end of the file."""

    @property
    def data_end(self) -> int:
        return self.data_offset + self.data_size

    @property
    def fully_indexed(self) -> bool:
        return bool(self.characteristics & header.FULLY_INDEXED)


def read_container(source: ByteSource, *, strict: bool = True, whole: bool = True) -> Container:
    """The frame of the CAR in ``source``; raises CarError with source and offset, OSError.

    ``strict``: see :mod:`carlib.header`.  ``whole`` False takes a CARv2 whose file ends inside its payload, cut to
    what is there.
    """
    size = source.size
    try:
        if source.peek(0, len(PRAGMA)) != PRAGMA:
            parsed = read_v1_header(source, 0, strict)
            return Container(1, parsed.roots, 0, size, parsed.length)
        v2 = V2Header.parse(source.peek(len(PRAGMA), V2_HEADER_BYTES), file_size=size if whole else None)
        if source.peek(v2.data_offset, len(PRAGMA)) == PRAGMA:
            raise Malformed("the payload of a CARv2 is a CARv2 again", offset=v2.data_offset)
        parsed = read_v1_header(source, v2.data_offset, strict)
        return Container(
            version=2,
            roots=parsed.roots,
            data_offset=v2.data_offset,
            data_size=min(v2.data_size, size - v2.data_offset),
            first_section=v2.data_offset + parsed.length,
            index_offset=v2.index_offset,
            characteristics=v2.characteristics,
            missing=max(0, v2.data_offset + v2.data_size - size),
        )
    except CarError as error:
        raise error.located(source=source.name) from None


def read_v1_header(source: ByteSource, offset: int, strict: bool = True) -> header.V1Header:
    """The CARv1 header at ``offset``; its length is checked before more than a first piece is read.

    Raises CarError with its offset in the file, but without the source.
    """
    start = source.peek(offset, _FIRST_READ)
    try:
        length, at = header.header_length(start)
        if length > MAX_HEADER_BYTES - MAX_VARINT_BYTES:
            raise LimitExceeded("header length", length, MAX_HEADER_BYTES, offset=0)
        if at + length > len(start):
            start = source.peek(offset, at + length)
        return header.parse_v1(start, strict=strict)
    except CarError as error:
        raise error.located(shift=offset) from None
