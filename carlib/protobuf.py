"""The little of protobuf that dag-pb and UnixFS need: varints of 64 bits, and the fields of one message.

Source: Protocol Buffers, Encoding.  Stricter than protobuf itself: varints in their shortest form, no groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from carlib.errors import LimitExceeded, Malformed, Truncated
from carlib.varint import Buffer

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

MAX_FIELD_NUMBER: Final = (1 << 29) - 1
_MAX_VARINT_BYTES: Final = 10
_UINT64_END: Final = 1 << 64


class Field(NamedTuple):
    """One field as it stands: ``value`` for VARINT, FIXED32 and FIXED64; ``start`` to ``stop`` for BYTES."""

    number: int
    wire: int
    value: int
    start: int
    stop: int


def varint(buffer: Buffer, position: int, end: int) -> tuple[int, int]:
    """The unsigned 64-bit value that begins at ``position`` and the position after it."""
    value = shift = 0
    for cursor in range(position, min(end, position + _MAX_VARINT_BYTES)):
        byte = buffer[cursor]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and cursor > position:
                raise Malformed("varint is not in its shortest form", offset=position)
            if value >= _UINT64_END:
                raise Malformed("varint has more than 64 bits", offset=position)
            return value, cursor + 1
        shift += 7
    if end - position < _MAX_VARINT_BYTES:
        raise Truncated("data ends inside a varint", offset=position)
    raise Malformed("varint has more than 64 bits", offset=position)


def encode_varint(value: int) -> bytes:
    """The shortest form of ``value``; a negative one in two's complement of 64 bits, as protobuf's int64."""
    if not -(1 << 63) <= value < _UINT64_END:
        raise ValueError(f"varint out of range: {value}")
    if 0 <= value < 0x80:
        return bytes((value,))
    value &= _UINT64_END - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_bytes(tag: int, data: Buffer) -> bytes:
    """A field of bytes; ``tag`` is the whole tag byte."""
    return b"".join((bytes((tag,)), encode_varint(len(data)), data))


def encode_uint(tag: int, value: int) -> bytes:
    """A varint field; ``tag`` is the whole tag byte."""
    return bytes((tag,)) + encode_varint(value)


def repeats(buffer: Buffer, start: int, size: int, end: int, varying: range = range(0)) -> int:
    """How often the ``size`` bytes at ``start`` stand there one after the other before ``end``, at least once.

    Bytes at the places in ``varying`` may differ.  A look at each place for many at once: six times faster than
    parsing what is the same anyway, as the links and sizes of all full chunks of a file.
    """
    most, count = (end - start) // size, 8
    while True:
        found = count = min(count, most)
        for place in range(size):
            if place not in varying and found > 1:
                column = bytes(buffer[start + place : start + found * size : size])
                found = len(column) - len(column.lstrip(column[:1]))
        if found < count or count == most:
            return found
        count *= 8  # few at first: where runs are short, a look at all that follows each would take for ever


def fields(buffer: Buffer, position: int, end: int) -> Iterator[Field]:
    """The fields of the message between ``position`` and ``end``, in the order they stand."""
    while position < end:
        start = position
        key, position = varint(buffer, position, end)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise Malformed("field number 0", offset=start)
        if number > MAX_FIELD_NUMBER:
            raise LimitExceeded("field number", number, MAX_FIELD_NUMBER, offset=start)
        if wire == VARINT:
            value, position = varint(buffer, position, end)
            yield Field(number, wire, value, start, position)
        elif wire == BYTES:
            length, position = varint(buffer, position, end)
            if length > end - position:
                raise Truncated(f"field {number} ends after its message", offset=start)
            yield Field(number, wire, 0, position, position + length)
            position += length
        elif wire in (FIXED32, FIXED64):
            width = 4 if wire == FIXED32 else 8
            if width > end - position:
                raise Truncated(f"field {number} ends after its message", offset=start)
            value = int.from_bytes(buffer[position : position + width], "little")
            yield Field(number, wire, value, position, position + width)
            position += width
        else:
            raise Malformed(f"wire type {wire} of field {number}", offset=start)
