"""The rolling hashes of content-defined chunking with numpy: all positions of a stretch of data at once.

A Rabin fingerprint is the sum (xor) of what each byte of the window gives at its place; two bytes are looked up
together, and the mask never needs more than the low 32 bits.  A buzhash of twice the width is two of half of it, the
first turned by as many bits.  Both are an order of magnitude slower than ``_rolling.c``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from carlib.varint import Buffer

Hashes = npt.NDArray[np.uint32]

_STRETCH: Final = 1 << 15
"""Positions at once: what is computed past a cut is lost, and all fits into a cache."""


def rabin(data: Buffer, start: int, mask: int, tables: bytes, /) -> int:
    """See :data:`carlib.unixfs.rolling.Find`."""
    return _first(data, start, mask, 16, functools.partial(_rabin, _pair_tables(tables)))


def buzhash(data: Buffer, start: int, mask: int, table: bytes, /) -> int:
    """See :data:`carlib.unixfs.rolling.Find`."""
    return _first(data, start, mask, 32, functools.partial(_buzhash, np.frombuffer(table, "<u4")))


def _first(
    data: Buffer,
    start: int,
    mask: int,
    window: int,
    hashes: Callable[[npt.NDArray[np.uint8]], Hashes],
) -> int:
    if not window <= start <= len(data):
        raise ValueError("start outside of the data")
    values = np.frombuffer(data, np.uint8)
    for position in range(start, len(data), _STRETCH):
        end = min(position + _STRETCH, len(data))
        found = np.flatnonzero((hashes(values[position - window : end - 1]) & np.uint32(mask)) == 0)
        if found.size:
            return position + int(found[0])
    return len(data)


def _rabin(tables: Hashes, values: npt.NDArray[np.uint8]) -> Hashes:
    """The low 32 bits of the fingerprint of every 16 bytes in ``values``."""
    pairs = values[:-1].astype(np.intp) | values[1:].astype(np.intp) << 8
    count = len(values) - 15
    result = np.zeros(count, np.uint32)
    for number, table in enumerate(tables):
        result ^= table[pairs[2 * number : 2 * number + count]]
    return result


def _buzhash(table: Hashes, values: npt.NDArray[np.uint8]) -> Hashes:
    """The buzhash of every 32 bytes in ``values``."""
    result = table[values]
    for width in (1, 2, 4, 8, 16):
        first = result[:-width]
        result = (first << np.uint32(width) | first >> np.uint32(32 - width)) ^ result[width:]
    return result


@functools.cache
def _pair_tables(tables: bytes) -> Hashes:
    """What the pairs of bytes at places 0 and 1, 2 and 3, … of the window give, by the little-endian pair: 2 MiB."""
    leaving = np.frombuffer(tables, "<u8", 256)  # of the first place; each later place is x^-8 of it
    above = np.frombuffer(tables, "<u8", 256, 2048)
    degree = int(above[1]).bit_length() - 1
    places = [np.arange(256, dtype=np.uint64)]
    while len(places) < 16:
        shifted = places[-1] << np.uint64(8)
        places.append(shifted ^ above[(shifted >> np.uint64(degree)).astype(np.intp)])
    assert (places[-1] == leaving).all()
    low = [place.astype(np.uint32) for place in reversed(places)]
    return np.stack(
        [(low[first][None, :] ^ low[first + 1][:, None]).reshape(-1) for first in range(0, 16, 2)]
    )
