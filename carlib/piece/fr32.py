"""fr32: 127 bytes spread over 128, so that each 32 of them are a number under 2**254.

Whole groups convert by :func:`pad` and :func:`unpad`, streams by :class:`Padder` and :class:`Unpadder`; a
:class:`View` reads any range of one form out of a source in the other.  Source: Filecoin specification, Piece.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final

from carlib.errors import Truncated
from carlib.limits import MIB
from carlib.piece import kernel
from carlib.piece.sizes import PADDED_GROUP, UNPADDED_GROUP, height_for, padded_at
from carlib.source import ByteSource, exactly
from carlib.varint import Buffer

pad = kernel.pad
"""128 bytes for each 127; ValueError for a part of a group."""
unpad = kernel.unpad
"""127 bytes for each 128, the two top bits of each 32 ignored; ValueError for a part of a group."""

STEP_GROUPS: Final = MIB // PADDED_GROUP
"""What the views convert at a time."""


class Padder:
    """Turns a payload that comes in pieces of any size into padded bytes; holds less than one group."""

    def __init__(self) -> None:
        self._carry = b""

    def feed(self, data: Buffer) -> bytes:
        """The padded groups that ``data`` completes."""
        whole, self._carry = _cut(self._carry, data, UNPADDED_GROUP)
        return pad(whole)

    def finish(self) -> bytes:
        """What was held back, zeros behind it: one group or nothing."""
        rest, self._carry = self._carry, b""
        return pad(rest.ljust(UNPADDED_GROUP, b"\0")) if rest else b""


class Unpadder:
    """Turns padded bytes that come in pieces of any size into payload and its zeros; holds less than one group."""

    def __init__(self) -> None:
        self._carry = b""

    def feed(self, data: Buffer) -> bytes:
        """The payload of the groups that ``data`` completes."""
        whole, self._carry = _cut(self._carry, data, PADDED_GROUP)
        return unpad(whole)

    def finish(self) -> None:
        """Raises Truncated if the data ended inside a group."""
        if self._carry:
            raise Truncated(f"padded data ends {len(self._carry)} bytes into a group of {PADDED_GROUP}")


def _cut(carry: bytes, data: Buffer, group: int) -> tuple[Buffer, bytes]:
    """Whole groups, and the rest."""
    if carry:
        data = b"".join((carry, data))
    whole = len(data) // group * group
    view = memoryview(data)
    return view[:whole], bytes(view[whole:])


class View:
    """One form read out of a source in the other; a :class:`~carlib.source.ByteSource`.

    See :func:`padded_view` and :func:`unpadded_view`.
    """

    def __init__(self, source: ByteSource, size: int, convert: Callable[[int, int], bytes]) -> None:
        """``convert``: some of the bytes from an offset on, at least one and at most as many as it is asked for."""
        self.name = source.name
        self._source = source
        self._size = size
        self._convert = convert

    @property
    def size(self) -> int:
        return self._size

    def peek(self, offset: int, length: int) -> bytes:
        """At most ``length`` bytes at ``offset``, fewer at the end; Truncated where the source is too short."""
        parts = []
        length = min(length, self._size - offset)
        while length > 0:
            parts.append(self._convert(offset, length))
            offset += len(parts[-1])
            length -= len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pread(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes at ``offset``; Truncated where there are fewer, OSError where reading fails."""
        return exactly(self.peek(offset, length), length, self.name, offset)

    def stamp(self) -> Hashable:
        return self._source.stamp()

    def close(self) -> None:
        """Closes the source."""
        self._source.close()


def padded_view(source: ByteSource) -> View:
    """The piece of a payload in its padded form, zeros up to the padded size behind it."""

    def convert(offset: int, length: int) -> bytes:
        first, groups = _groups(offset, length, PADDED_GROUP)
        data = source.peek(first * UNPADDED_GROUP, groups * UNPADDED_GROUP)
        start = offset - first * PADDED_GROUP
        return pad(data.ljust(groups * UNPADDED_GROUP, b"\0"))[start : start + length]

    return View(source, padded_at(height_for(source.size)), convert)


def unpadded_view(source: ByteSource, base: int, size: int) -> View:
    """Payload out of padded bytes: ``size`` unpadded ones from offset ``base`` of ``source``, a multiple of 128, on.

    Nothing is read yet: a source that is too short raises Truncated when it shows.
    """
    if base % PADDED_GROUP:
        raise ValueError(f"padded data begins at a multiple of {PADDED_GROUP}, not at {base}")

    def convert(offset: int, length: int) -> bytes:
        first, groups = _groups(offset, length, UNPADDED_GROUP)
        data = source.pread(base + first * PADDED_GROUP, groups * PADDED_GROUP)
        start = offset - first * UNPADDED_GROUP
        return unpad(data)[start : start + length]

    return View(source, size, convert)


def _groups(offset: int, length: int, group: int) -> tuple[int, int]:
    """The first group of a range and how many of them to convert at once."""
    first = offset // group
    return first, min(STEP_GROUPS, -(-(offset + length) // group) - first)
