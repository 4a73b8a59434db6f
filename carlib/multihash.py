"""Hash functions by multihash code, and the check of a block against its CID.

Source: multiformats, multihash table.  hashlib does the work (it drops the GIL above 2 KiB); BLAKE3 is there when the
``blake3`` package is.  A digest shorter than the function's own is a prefix of it (multihash), never under
:data:`~carlib.limits.MIN_DIGEST_BYTES`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from carlib.errors import HashMismatch, Malformed, UnknownHash
from carlib.limits import MIN_DIGEST_BYTES

if TYPE_CHECKING:
    from carlib.cid import Cid
    from carlib.varint import Buffer

MAX_HASHING_THREADS: Final = 4
"""Reading and writing cannot feed more."""
IDENTITY: Final = 0x00
SHA1: Final = 0x11
SHA2_256: Final = 0x12
SHA2_512: Final = 0x13
SHA3_512: Final = 0x14
SHA3_384: Final = 0x15
SHA3_256: Final = 0x16
SHA3_224: Final = 0x17
BLAKE3: Final = 0x1E
SHA2_384: Final = 0x20
DBL_SHA2_256: Final = 0x56
SHA2_224: Final = 0x1013
BLAKE2B_8: Final = 0xB201
BLAKE2B_256: Final = 0xB220
BLAKE2B_512: Final = 0xB240
BLAKE2S_8: Final = 0xB241
BLAKE2S_256: Final = 0xB260


def _named(name: str) -> Callable[[Buffer], bytes]:
    return lambda data: hashlib.new(name, data, usedforsecurity=False).digest()


def _blake2(make: type[hashlib.blake2b | hashlib.blake2s], size: int) -> Callable[[Buffer], bytes]:
    return lambda data: make(data, digest_size=size).digest()


def _functions() -> dict[int, Callable[[Buffer], bytes]]:
    """Code → function from data to its full digest; one line registers one."""
    table: dict[int, Callable[[Buffer], bytes]] = {
        IDENTITY: bytes,
        SHA1: _named("sha1"),
        SHA2_224: lambda data: hashlib.sha224(data).digest(),
        SHA2_256: lambda data: hashlib.sha256(data).digest(),
        SHA2_384: lambda data: hashlib.sha384(data).digest(),
        SHA2_512: lambda data: hashlib.sha512(data).digest(),
        SHA3_224: lambda data: hashlib.sha3_224(data).digest(),
        SHA3_256: lambda data: hashlib.sha3_256(data).digest(),
        SHA3_384: lambda data: hashlib.sha3_384(data).digest(),
        SHA3_512: lambda data: hashlib.sha3_512(data).digest(),
        DBL_SHA2_256: lambda data: hashlib.sha256(hashlib.sha256(data).digest()).digest(),
    }
    table.update({BLAKE2B_8 + size - 1: _blake2(hashlib.blake2b, size) for size in range(1, 65)})
    table.update({BLAKE2S_8 + size - 1: _blake2(hashlib.blake2s, size) for size in range(1, 33)})
    try:
        from blake3 import blake3
    except ImportError:
        return table
    table[BLAKE3] = lambda data: blake3(data).digest()
    return table


FUNCTIONS: Final = _functions()

NAMES: Final = {
    IDENTITY: "identity",
    SHA1: "sha1",
    SHA2_256: "sha2-256",
    SHA2_512: "sha2-512",
    SHA3_512: "sha3-512",
    SHA3_384: "sha3-384",
    SHA3_256: "sha3-256",
    SHA3_224: "sha3-224",
    BLAKE3: "blake3",
    SHA2_384: "sha2-384",
    DBL_SHA2_256: "dbl-sha2-256",
    SHA2_224: "sha2-224",
} | {
    **{BLAKE2B_8 + size - 1: f"blake2b-{8 * size}" for size in range(1, 65)},
    **{BLAKE2S_8 + size - 1: f"blake2s-{8 * size}" for size in range(1, 33)},
}
"""Names as in the multicodec table."""


def hashing_threads() -> int:
    """Threads that are worth their while."""
    return min(MAX_HASHING_THREADS, os.cpu_count() or 1)


def digest(code: int, data: Buffer) -> bytes:
    """The full digest of ``data``; UnknownHash for a code that is not in :data:`FUNCTIONS`."""
    function = FUNCTIONS.get(code)
    if function is None:
        raise UnknownHash(code)
    return function(data)


def check(cid: Cid, data: Buffer) -> None:
    """Nothing if ``data`` hashes to ``cid``; else HashMismatch, or UnknownHash where it cannot be told."""
    raw = cid.raw
    if len(raw) == 36 and raw[2:4] == b"\x12\x20" and raw[0] == 1 and raw[1] < 0x80:
        matches = hashlib.sha256(data).digest() == raw[-32:]
    else:
        expected, code = cid.digest, cid.hash_code
        found = digest(code, data)
        if code != IDENTITY:
            if len(expected) < MIN_DIGEST_BYTES:
                raise Malformed(
                    f"a digest of {len(expected)} bytes proves nothing, {MIN_DIGEST_BYTES} are the least: {cid}"
                )
            found = found[: len(expected)]
        matches = found == expected
    if not matches:
        raise HashMismatch(cid)
