"""Unsigned LEB128 as multiformats restrict it: at most nine bytes, shortest form only.

Source: multiformats, unsigned-varint.  Hot loops inline the one- and two-byte cases and come here for the rest.
"""

from __future__ import annotations

from carlib.errors import Malformed, Truncated
from carlib.limits import MAX_VARINT_BYTES

Buffer = bytes | bytearray | memoryview


def encode(value: int) -> bytes:
    """The shortest form of ``value``; ValueError unless 0 <= value < 2**63."""
    if not 0 <= value < 1 << 63:
        raise ValueError(f"varint out of range: {value}")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(buffer: Buffer, position: int, end: int) -> tuple[int, int]:
    """The value that begins at ``position`` and the position after it.

    Raises Truncated where ``end`` comes first, Malformed for over-long or non-minimal forms; offsets are positions.
    """
    value = shift = 0
    for cursor in range(position, min(end, position + MAX_VARINT_BYTES)):
        byte = buffer[cursor]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and cursor > position:
                raise Malformed("varint is not in its shortest form", offset=position)
            return value, cursor + 1
        shift += 7
    if end - position < MAX_VARINT_BYTES:
        raise Truncated("data ends inside a varint", offset=position)
    raise Malformed(f"varint is longer than {MAX_VARINT_BYTES} bytes", offset=position)
