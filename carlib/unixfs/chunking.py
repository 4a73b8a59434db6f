"""Where files are cut into leaves: every so many bytes, or where their content says so; under kubo's names.

Source: go's boxo, ``chunker``.  Content-defined cuts move with the bytes around them, so two versions of a file share
most of their blocks.  A profile names a chunker; ``carlib.pack`` feeds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from carlib.limits import KIB, MIB
from carlib.unixfs import rolling

MAX_CHUNK_BYTES: Final = 2 * MIB - 256
"""kubo's: a block of 2 MiB, less what dag-pb puts around a chunk."""
_USUAL_AVERAGE: Final = 256 * KIB
_READ_BYTES: Final = 2 * MIB


Read = Callable[[int], bytes]
"""Gives up to so many bytes, none only at the end."""


class Chunker(Protocol):
    """One way to cut by content; ``maximum`` bytes are the most of one chunk."""

    @property
    def maximum(self) -> int: ...

    def cut(self, data: memoryview) -> int:
        """Length of the first chunk of ``data``, which is ``maximum`` bytes long, or less at the end of a file."""


@dataclass(frozen=True, slots=True)
class Rabin:
    """Cuts where the Rabin fingerprint of the last 16 bytes is 0 in as many bits as ``average`` has above its first."""

    minimum: int
    average: int
    maximum: int

    def __post_init__(self) -> None:
        if self.minimum < rolling.RABIN_WINDOW:
            raise ValueError(f"rabin: a minimum of {self.minimum} bytes; {rolling.RABIN_WINDOW} is the least")
        if not self.minimum < self.average < self.maximum:
            raise ValueError(
                f"rabin: minimum {self.minimum}, average {self.average}, maximum {self.maximum}: "
                "each must be less than the next"
            )
        _check_size("rabin", self.maximum)

    @classmethod
    def around(cls, average: int) -> Rabin:
        """From a third of ``average`` to half as much again."""
        return cls(average // 3, average, average + average // 2)

    def cut(self, data: memoryview) -> int:
        if len(data) <= self.minimum:
            return len(data)
        mask = (1 << self.average.bit_length() - 1) - 1
        return rolling.rabin(data, self.minimum, mask, rolling.RABIN_TABLES)


@dataclass(frozen=True, slots=True)
class Buzhash:
    """Cuts where the buzhash of the last 32 bytes is 0 in 17 bits; it has no parameters."""

    minimum: int = 128 * KIB
    maximum: int = 512 * KIB

    def cut(self, data: memoryview) -> int:
        if len(data) <= self.minimum:
            return len(data)
        return rolling.buzhash(data, self.minimum, (1 << 17) - 1, rolling.BUZHASH_TABLE)


def parse(text: str) -> int | Chunker:
    """The chunker that kubo means by ``text``: a size in bytes for ``size-N``; ValueError that says what is wrong.

    Where kubo takes what cannot work (``rabin-30`` would never cut, ``buzhash-1`` ignores its number) we refuse.
    """
    name, *numbers = text.split("-")
    match name, len(numbers):
        case "default", 0:
            return _USUAL_AVERAGE
        case "size", 1:
            return _check_size(text, _number(text, numbers[0]))
        case "rabin", 0:
            return Rabin.around(_USUAL_AVERAGE)
        case "rabin", 1:
            return Rabin.around(_number(text, numbers[0]))
        case "rabin", 3:
            labelled = zip(("min:", "avg:", "max:"), numbers, strict=True)
            return Rabin(*(_number(text, number.removeprefix(label)) for label, number in labelled))
        case "buzhash", 0:
            return Buzhash()
    raise ValueError(
        f"chunker {text!r}: size-N, rabin, rabin-AVERAGE, rabin-MINIMUM-AVERAGE-MAXIMUM and buzhash are known"
    )


def _number(text: str, digits: str) -> int:
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"chunker {text!r}: {digits!r} is no number of bytes")
    return int(digits)


def _check_size(text: str, size: int) -> int:
    if not 0 < size <= MAX_CHUNK_BYTES:
        raise ValueError(f"chunker {text!r}: chunks have 1 to {MAX_CHUNK_BYTES} bytes, not {size}")
    return size


def fixed(read: Read, size: int) -> Iterator[bytes]:
    """What ``read`` gives, in chunks of ``size``; the last may be shorter."""
    at_end = False
    while not at_end:
        chunk = read(size)
        at_end = not chunk
        while len(chunk) < size and not at_end:
            more = read(size - len(chunk))
            chunk += more
            at_end = not more
        if chunk:
            yield chunk


def by_content(read: Read, chunker: Chunker) -> Iterator[bytes]:
    """What ``read`` gives, cut by ``chunker``."""
    buffer, at_end = b"", False
    while True:
        while not at_end and len(buffer) < chunker.maximum:
            more = read(max(_READ_BYTES, chunker.maximum) - len(buffer))
            buffer, at_end = buffer + more, not more
        view, position = memoryview(buffer), 0
        while len(buffer) - position >= (1 if at_end else chunker.maximum):
            size = chunker.cut(view[position : position + chunker.maximum])
            yield buffer[position : position + size]
            position += size
        if at_end:
            return
        buffer = buffer[position:]
