"""How big pieces are: payload, unpadded and padded bytes, and the height of the tree over them.

A piece of height h has 2**h leaves of 32 bytes: ``32 << h`` padded bytes, which hold ``127 << (h - 2)`` unpadded ones,
which hold a payload and zeros behind it.  Source: Filecoin specification, Piece; FRC-0069.
"""

from __future__ import annotations

from typing import Final

from carlib.errors import LimitExceeded, Malformed

NODE_BYTES: Final = 32
UNPADDED_GROUP: Final = 127
PADDED_GROUP: Final = 128
"""fr32 makes 128 bytes of 127: four numbers of 254 bits, 32 bytes each."""

MIN_HEIGHT: Final = 2
"""The least piece: one group.  (go-fil-commp-hashhash refuses payloads under 65 bytes; FRC-0069 defines them.)"""
MAX_SECTOR_HEIGHT: Final = 31
"""64 GiB, the largest sector of Filecoin, so the largest piece that anybody can store."""
MAX_HEIGHT: Final = 57
"""The highest tree whose payload size and padding a varint of FRC-0069 can say."""

SECTOR_BYTES: Final = (2 << 10, 8 << 20, 512 << 20, 32 << 30, 64 << 30)
"""Sizes of Filecoin's sectors, the small ones of test networks first."""


def height_for(payload_size: int) -> int:
    """The height of the least piece that holds ``payload_size`` bytes; LimitExceeded past :data:`MAX_HEIGHT`."""
    if payload_size < 0:
        raise ValueError(f"a payload of {payload_size} bytes")
    groups = max(1, -(-payload_size // UNPADDED_GROUP))
    height = MIN_HEIGHT + (groups - 1).bit_length()
    if height > MAX_HEIGHT:
        raise LimitExceeded("payload size", payload_size, unpadded_at(MAX_HEIGHT))
    return height


def padded_at(height: int) -> int:
    """Padded bytes of a piece of this height."""
    return NODE_BYTES << height


def unpadded_at(height: int) -> int:
    """Unpadded bytes of a piece of this height: the largest payload that it holds."""
    return UNPADDED_GROUP << (height - MIN_HEIGHT)


def padded_size(payload_size: int) -> int:
    """Padded bytes of the least piece that holds ``payload_size`` bytes; LimitExceeded past :data:`MAX_HEIGHT`."""
    return padded_at(height_for(payload_size))


def unpadded_size(padded: int) -> int:
    """Unpadded bytes of a piece of ``padded`` bytes; Malformed unless that is a piece size."""
    return unpadded_at(height_of(padded))


def height_of(padded: int) -> int:
    """The height of a piece of ``padded`` bytes; Malformed unless that is a power of two, at least 128."""
    if padded < PADDED_GROUP or padded & (padded - 1):
        raise Malformed(f"{padded} is not a padded piece size: a power of two, at least {PADDED_GROUP}")
    height = (padded // NODE_BYTES).bit_length() - 1
    if height > MAX_HEIGHT:
        raise LimitExceeded("padded piece size", padded, padded_at(MAX_HEIGHT))
    return height
