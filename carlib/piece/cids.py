"""Piece CIDs: v1, a root whose size travels beside it, and v2 (FRC-0069), which says size and padding itself.

v1: codec fil-commitment-unsealed, multihash sha2-256-trunc254-padded, the root: ``baga6ea4seaq…``.
v2: codec raw, multihash fr32-sha256-trunc254-padbintree, varint of the padding, height in one byte, the root:
``bafkzci…``.  Padding is what zeros the unpadded piece has behind its payload.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from carlib import varint
from carlib.cid import RAW, Cid
from carlib.errors import Malformed
from carlib.piece.sizes import (
    MAX_HEIGHT,
    MIN_HEIGHT,
    NODE_BYTES,
    height_for,
    height_of,
    padded_at,
    unpadded_at,
)

FIL_COMMITMENT_UNSEALED: Final = 0xF101
SHA2_256_TRUNC254_PADDED: Final = 0x1012
FR32_SHA256_TRUNC254_PADBINTREE: Final = 0x1011

_V1_PREFIX: Final = b"\x01" + b"".join(
    map(varint.encode, (FIL_COMMITMENT_UNSEALED, SHA2_256_TRUNC254_PADDED, NODE_BYTES))
)
_V2_PREFIX: Final = b"\x01" + b"".join(map(varint.encode, (RAW, FR32_SHA256_TRUNC254_PADBINTREE)))


@dataclass(frozen=True, slots=True)
class Piece:
    """A payload's root and size, from which both CIDs and all sizes follow."""

    root: bytes
    payload_size: int

    @classmethod
    def parse(cls, value: str | bytes, *, payload_size: int | None = None, padded: int | None = None) -> Self:
        """The piece that a CID of either version names.

        A v1 needs one of the sizes beside it (``padded``: all of the piece counts as payload); where a v2 comes with a
        size, they must agree.  Raises Malformed or LimitExceeded, as for any CID that names no piece.
        """
        return cls.of(Cid.parse(value), payload_size=payload_size, padded=padded)

    @classmethod
    def of(cls, cid: Cid, *, payload_size: int | None = None, padded: int | None = None) -> Self:
        """As :meth:`parse`, for a CID that is one already."""
        if cid.raw.startswith(_V2_PREFIX):
            piece = cls._of_v2(cid)
            if payload_size not in (None, piece.payload_size) or padded not in (None, piece.padded_size):
                raise Malformed(f"{cid} does not have the size that is given with it")
            return piece
        root = _v1_root(cid)
        if payload_size is None and padded is None:
            raise Malformed(f"{cid} says no size, and none is given with it")
        piece = cls(root, unpadded_at(height_of(padded or 0)) if payload_size is None else payload_size)
        if padded not in (None, padded_at(height_for(piece.payload_size))):
            raise Malformed(f"a payload of {payload_size} bytes does not make a piece of {padded}")
        return piece

    @classmethod
    def _of_v2(cls, cid: Cid) -> Self:
        digest = cid.digest
        padding, position = varint.decode(digest, 0, len(digest))
        if len(digest) != position + 1 + NODE_BYTES:
            raise Malformed(f"the digest of {cid} is not padding, height and root")
        height = digest[position]
        if not MIN_HEIGHT <= height <= MAX_HEIGHT:
            raise Malformed(f"{cid} has height {height}, not {MIN_HEIGHT} to {MAX_HEIGHT}")
        payload_size = unpadded_at(height) - padding
        if payload_size < 0 or height_for(payload_size) != height:
            raise Malformed(f"{cid} has {padding} bytes of padding, more than height {height} can need")
        return cls(digest[position + 1 :], payload_size)

    @property
    def height(self) -> int:
        """Levels of nodes above the leaves."""
        return height_for(self.payload_size)

    @property
    def padded_size(self) -> int:
        return padded_at(self.height)

    @property
    def unpadded_size(self) -> int:
        return unpadded_at(self.height)

    @property
    def padding(self) -> int:
        """Zero bytes behind the payload in the unpadded piece."""
        return self.unpadded_size - self.payload_size

    @property
    def v1(self) -> Cid:
        return Cid(_V1_PREFIX + self.root)

    @property
    def v2(self) -> Cid:
        digest = varint.encode(self.padding) + bytes((self.height,)) + self.root
        return Cid(_V2_PREFIX + varint.encode(len(digest)) + digest)


def is_piece_cid(cid: Cid) -> bool:
    """Whether the CID is of a kind that names pieces; it may still be malformed."""
    return cid.raw.startswith((_V1_PREFIX, _V2_PREFIX))


def root_of(cid: Cid) -> bytes:
    """The root in a piece CID of either version; Malformed where there is none."""
    return Piece.of(cid).root if cid.raw.startswith(_V2_PREFIX) else _v1_root(cid)


def _v1_root(cid: Cid) -> bytes:
    if not cid.raw.startswith(_V1_PREFIX) or len(cid.raw) != len(_V1_PREFIX) + NODE_BYTES:
        raise Malformed(f"{cid} is not a piece CID")
    return cid.raw[len(_V1_PREFIX) :]
