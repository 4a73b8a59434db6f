"""Test data without files: the ChaCha20 keystream of a seed, as kubo's own tests use it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]

_BLOCK_BYTES = 64
_PIECE_BLOCKS = 1 << 14  # one piece is 1 MiB


def pieces(seed: str, length: int) -> Iterator[bytes]:
    """The first `length` bytes of the stream (key: SHA-256 of the seed; nonce and counter 0), in pieces of 1 MiB."""
    key = np.frombuffer(hashlib.sha256(seed.encode()).digest(), "<u4")
    counter = 0
    while length > 0:
        piece = _blocks(key, counter, _PIECE_BLOCKS)[:length]
        yield piece
        length -= len(piece)
        counter += _PIECE_BLOCKS


def keystream(seed: str, length: int) -> bytes:
    return b"".join(pieces(seed, length))


def _blocks(key: npt.NDArray[np.uint32], counter: int, count: int) -> bytes:
    start = np.zeros((16, count), np.uint32)
    start[0:4] = np.frombuffer(b"expand 32-byte k", "<u4")[:, None]
    start[4:12] = key[:, None]
    start[12] = np.arange(counter, counter + count, dtype=np.uint32)
    state = start.copy()
    for _ in range(10):
        for a, b, c, d in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)):
            _quarter(state, a, b, c, d)
        for a, b, c, d in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            _quarter(state, a, b, c, d)
    state += start
    return state.T.astype("<u4").tobytes()


def _quarter(state: Words, a: int, b: int, c: int, d: int) -> None:
    for add, to, turn, by in ((b, a, d, 16), (d, c, b, 12), (b, a, d, 8), (d, c, b, 7)):
        state[to] += state[add]
        state[turn] ^= state[to]
        state[turn] = (state[turn] << np.uint32(by)) | (state[turn] >> np.uint32(32 - by))
