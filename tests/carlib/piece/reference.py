"""Pieces by the letter of the specification, slowly: what carlib's commitment and fr32 must agree with."""

from __future__ import annotations

from hashlib import sha256

import pytest

from carlib.piece import kernel, portable

BITS = (1 << 254) - 1


def padded(data: bytes) -> bytes:
    """fr32 of a payload: zeros to whole groups of 127, each four numbers of 254 bits."""
    data = data.ljust(-(-len(data) // 127) * 127, b"\0")
    groups = [int.from_bytes(data[at : at + 127], "little") for at in range(0, len(data), 127)]
    return b"".join((group >> 254 * n & BITS).to_bytes(32, "little") for group in groups for n in range(4))


def root(data: bytes) -> bytes:
    """The commitment of a payload."""
    leaves = padded(data or b"\0")
    size = 1 << (len(leaves) - 1).bit_length()
    return tree(leaves.ljust(size, b"\0"))


def tree(leaves: bytes) -> bytes:
    """The root over leaves of 32 bytes, a power of two of them."""
    if len(leaves) == 32:
        return leaves
    half = len(leaves) // 2
    digest = sha256(tree(leaves[:half]) + tree(leaves[half:])).digest()
    return digest[:31] + bytes((digest[31] & 0x3F,))


def pattern(size: int, seed: int = 1) -> bytes:
    """Bytes without a period that any part of a piece could share."""
    return b"".join(sha256(f"{seed} {at}".encode()).digest() for at in range(0, size, 32))[:size]


SUBTREES = [pytest.param(portable.subtree, id="portable")]
PADS = [pytest.param((portable.pad, portable.unpad), id="portable")]
if kernel.VARIANTS:
    from carlib.piece import _kernel

    SUBTREES += [
        pytest.param(lambda data, number=number: _kernel.subtree(data, number), id=name)
        for number, name in enumerate(kernel.VARIANTS)
    ]
    PADS.append(pytest.param((_kernel.pad, _kernel.unpad), id="kernel"))
