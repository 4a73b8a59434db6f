"""What ``_kernel.c`` does, in Python: for machines without it, for worker processes, and to test it against.

hashlib hashes pair by pair (some 40 MB/s of payload a core), numpy shifts whole columns of fr32 groups at once.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from carlib.piece.sizes import NODE_BYTES, PADDED_GROUP, UNPADDED_GROUP

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from carlib.varint import Buffer

_TOP_BITS_OFF: Final = bytes(byte & 0x3F for byte in range(256))
_LOW_62: Final = (1 << 62) - 1
_COLUMNS: Final = 16
"""Words of 64 bits in a padded group."""


def subtree(data: Buffer) -> bytes:
    """Root of the tree over ``127 << n`` bytes of payload; ValueError for another length."""
    groups, rest = divmod(len(data), UNPADDED_GROUP)
    if rest or groups < 1 or groups & (groups - 1):
        raise ValueError(f"{len(data)} bytes are not 127 << n")
    level = pad(data)
    while len(level) > NODE_BYTES:
        level = _hashed(level)
    return level


def _hashed(level: bytes) -> bytes:
    """The next level: SHA-256 of each 64 bytes, cut to 254 bits."""
    nodes = bytearray(b"".join([sha256(level[at : at + 64]).digest() for at in range(0, len(level), 64)]))
    nodes[NODE_BYTES - 1 :: NODE_BYTES] = nodes[NODE_BYTES - 1 :: NODE_BYTES].translate(_TOP_BITS_OFF)
    return bytes(nodes)


def pad(data: Buffer) -> bytes:
    """fr32: 128 bytes for each 127; ValueError for a part of a group."""
    groups, rest = divmod(len(data), UNPADDED_GROUP)
    if rest:
        raise ValueError(f"{len(data)} bytes are not a multiple of {UNPADDED_GROUP}")
    if not groups:
        return b""
    import numpy as np  # here, because a CLI that pads nothing must not wait for it

    source = b"".join((data, bytes(8)))  # the last word of the last group is read past its end
    padded: NDArray[np.uint64] = np.empty((groups, _COLUMNS), dtype="<u8")
    for number in range(4):
        shift, first = 2 * -number % 8, 32 * number - (number > 0)
        low = _words(source, groups, UNPADDED_GROUP, first)
        columns = padded[:, 4 * number : 4 * number + 4]
        if shift:
            np.right_shift(low, shift, out=columns)
            columns |= _words(source, groups, UNPADDED_GROUP, first + 8) << (64 - shift)
        else:
            columns[:] = low
        columns[:, 3] &= _LOW_62
    return padded.tobytes()


def unpad(data: Buffer) -> bytes:
    """fr32 undone: 127 bytes for each 128, top bits ignored; ValueError for a part of a group."""
    groups, rest = divmod(len(data), PADDED_GROUP)
    if rest:
        raise ValueError(f"{len(data)} bytes are not a multiple of {PADDED_GROUP}")
    import numpy as np

    padded = np.frombuffer(data, dtype="<u8").reshape(groups, _COLUMNS)
    words: NDArray[np.uint64] = np.empty((groups, _COLUMNS), dtype="<u8")
    for number in range(4):
        shift = 2 * number
        columns = padded[:, 4 * number : 4 * number + 4].copy()
        columns[:, 3] &= _LOW_62
        out = words[:, 4 * number : 4 * number + 4]
        np.right_shift(columns, shift, out=out)
        if shift:
            out[:, :3] |= columns[:, 1:] << (64 - shift)
        if number < 3:
            out[:, 3] |= padded[:, 4 * number + 4] << (62 - shift)
    return words.view(np.uint8)[:, :UNPADDED_GROUP].tobytes()


def _words(source: bytes, groups: int, stride: int, offset: int) -> NDArray[np.uint64]:
    """Four words of each group, from byte ``offset`` of it on."""
    import numpy as np

    return np.ndarray((groups, 4), "<u8", source, offset, (stride, 8))
