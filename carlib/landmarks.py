"""Where digests lie in a bucket of an index, learned from look-ups, so that the next one reads a single small piece.

Digests are uniform, so a digest's value tells its place but for an error that grows with the root of the entries, and
which is nearly the same for digests that are near one another.  The error is kept for each of up to
:data:`MAX_SLOTS` ranges of values: at most 256 KiB a bucket, whatever its size.  It is only ever a guess: what is found
is read from the index at that moment, and where the guess misses, a full search answers.
"""

from __future__ import annotations

import struct
from array import array
from typing import Final

WINDOW: Final = 64
"""Entries that are read at once.  Half of it is three times the usual error within a slot."""
WIDE_WINDOW: Final = 512
"""Entries that are read where they were not among those: 20 KB, sooner than three small pieces one after the other."""
MAX_SLOTS: Final = 1 << 15
_SLOT_ENTRIES: Final = 256
_NEIGHBOURS: Final = 8
"""Slots on both sides that take over what one has learned, until they know better."""
_UNKNOWN: Final = -1 << 63
_VALUE: Final = struct.Struct(">Q")
VALUE_BYTES: Final = _VALUE.size


class Landmarks:
    """What is known of one bucket of ``count`` sorted entries, at least :data:`WINDOW`.  Used from several threads.

    Each slot is one number that is read and written whole, so threads need no lock between them.
    """

    __slots__ = ("_errors", "_scale", "_shift")

    def __init__(self, count: int) -> None:
        bits = min(MAX_SLOTS, max(1, count // _SLOT_ENTRIES)).bit_length() - 1
        self._errors = array("q", [_UNKNOWN]) * (1 << bits)
        self._shift = 64 - bits
        self._scale = count

    def place(self, digest: bytes) -> int | None:
        """About where ``digest`` should be, or None: nobody knows.  It has :data:`VALUE_BYTES` at least."""
        (value,) = _VALUE.unpack_from(digest)
        error = self._errors[value >> self._shift]
        return None if error == _UNKNOWN else (value * self._scale >> 64) + error

    def learn(self, digest: bytes, number: int) -> None:
        """``digest`` was found to be, or to belong, at ``number``."""
        (value,) = _VALUE.unpack_from(digest)
        error, errors = number - (value * self._scale >> 64), self._errors
        slot = value >> self._shift
        for near in range(max(0, slot - _NEIGHBOURS), min(slot + _NEIGHBOURS + 1, len(errors))):
            if near == slot or errors[near] == _UNKNOWN:
                errors[near] = error
