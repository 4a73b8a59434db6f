"""Content identifiers, kept as the bytes that stand in a section; text is made when somebody reads it.

Source: multiformats, CID; CARv1, Data section.  A CID is *not* verified by being one: :func:`carlib.multihash.check`
is.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from carlib import multibase, multihash, varint
from carlib.errors import CarError, LimitExceeded, Malformed, Truncated
from carlib.limits import MAX_CID_BYTES
from carlib.varint import Buffer

RAW: Final = 0x55
DAG_PB: Final = 0x70
DAG_CBOR: Final = 0x71
LIBP2P_KEY: Final = 0x72
CBOR: Final = 0x51
DAG_JSON: Final = 0x0129
JSON: Final = 0x0200

CODEC_NAMES: Final = {
    RAW: "raw",
    DAG_PB: "dag-pb",
    DAG_CBOR: "dag-cbor",
    LIBP2P_KEY: "libp2p-key",
    CBOR: "cbor",
    DAG_JSON: "dag-json",
    JSON: "json",
    0x78: "git-raw",
    0x0202: "car",
    0xF101: "fil-commitment-unsealed",
    0xF102: "fil-commitment-sealed",
}
"""Names as in the multicodec table, for the codecs that CARs hold; others are shown by their number."""

_V0_PREFIX: Final = b"\x12\x20"
_V0_LENGTH: Final = 34


def codec_name(code: int) -> str:
    """The multicodec name of ``code``, or ``0x…`` where we know none."""
    return CODEC_NAMES.get(code) or f"0x{code:x}"


@dataclass(frozen=True, slots=True, order=True)
class Cid:
    """One CID; equal and hashed by its binary form, so v0 and v1 of one block differ (compare ``multihash`` instead).

    ``Cid(raw)`` trusts its caller; :meth:`parse` and :func:`read_cid` are the ways in for bytes from outside.
    """

    raw: bytes

    @classmethod
    def parse(cls, value: str | bytes) -> Self:
        """The CID in ``value``: base58btc v0, any multibase v1, ``/ipfs/`` before either, or binary; Malformed else."""
        try:
            raw = _binary(value) if isinstance(value, str) else value
            end = read_cid(raw, 0, len(raw))
        except LimitExceeded:
            raise
        except CarError as error:
            raise Malformed(f"not a CID: {value[:100]!r} ({error.message})") from None
        if end != len(raw):
            raise Malformed(f"not a CID: {len(raw) - end} bytes follow it in {value[:100]!r}")
        return cls(bytes(raw))

    @classmethod
    def v1(cls, codec: int, mh: bytes) -> Self:
        """Version 1 of ``codec`` over the binary multihash ``mh``."""
        return cls(b"\x01" + varint.encode(codec) + mh)

    @classmethod
    def of(cls, data: Buffer, codec: int = RAW, hash_code: int = multihash.SHA2_256) -> Self:
        """The CIDv1 of a block of ``codec`` that holds ``data``; UnknownHash for a function that we lack."""
        if hash_code == multihash.SHA2_256 and codec < 0x80:
            return cls(bytes((1, codec, 0x12, 0x20)) + sha256(data).digest())
        digest = multihash.digest(hash_code, data)
        return cls.v1(codec, varint.encode(hash_code) + varint.encode(len(digest)) + digest)

    @classmethod
    def identity(cls, data: Buffer, codec: int = RAW) -> Self:
        """The CIDv1 that carries ``data`` itself."""
        return cls.of(data, codec, multihash.IDENTITY)

    @property
    def version(self) -> int:
        return 0 if self._is_v0() else 1

    @property
    def codec(self) -> int:
        """Multicodec code of the content; dag-pb for v0."""
        return DAG_PB if self._is_v0() else varint.decode(self.raw, 1, len(self.raw))[0]

    @property
    def multihash(self) -> bytes:
        """Binary multihash: hash code, digest length, digest."""
        raw = self.raw
        if self._is_v0():
            return raw
        return raw[2:] if raw[1] < 0x80 else raw[varint.decode(raw, 1, len(raw))[1] :]

    @property
    def hash_code(self) -> int:
        return varint.decode(self.multihash, 0, MAX_CID_BYTES)[0]

    @property
    def digest(self) -> bytes:
        mh = self.multihash
        _, position = varint.decode(mh, 0, len(mh))
        _, position = varint.decode(mh, position, len(mh))
        return mh[position:]

    @property
    def is_identity(self) -> bool:
        """Whether the digest is the data."""
        return not self._is_v0() and self.multihash[0] == multihash.IDENTITY

    def encode(self, base: str) -> str:
        """The CID in the multibase named ``base``; a v0 CID as the v1 that it equals."""
        return multibase.encode(Cid.v1(DAG_PB, self.raw).raw if self._is_v0() else self.raw, base)

    def __str__(self) -> str:
        return multibase.base58_encode(self.raw) if self._is_v0() else "b" + multibase.base32_encode(self.raw)

    def __hash__(self) -> int:
        return hash(self.raw)

    def _is_v0(self) -> bool:
        return self.raw[0] == 0x12


def read_cid(buffer: Buffer, position: int, end: int) -> int:
    """The position after the binary CID that begins at ``position``.

    Raises Truncated where ``end`` comes first, Malformed for another version or a broken varint, LimitExceeded past
    :data:`~carlib.limits.MAX_CID_BYTES`; offsets are positions.
    """
    if end - position < 2:
        raise Truncated("data ends inside a CID", offset=position)
    if buffer[position] == 0x12:
        if buffer[position + 1] != 0x20:
            raise Malformed("CIDv0 is not a 32-byte sha2-256 multihash", offset=position)
        after = position + _V0_LENGTH
    else:
        version, cursor = varint.decode(buffer, position, end)
        if version != 1:
            raise Malformed(f"CID version {version} is not supported", offset=position)
        _codec, cursor = varint.decode(buffer, cursor, end)
        _hash, cursor = varint.decode(buffer, cursor, end)
        length, cursor = varint.decode(buffer, cursor, end)
        after = cursor + length
    if after - position > MAX_CID_BYTES:
        raise LimitExceeded("CID length", after - position, MAX_CID_BYTES, offset=position)
    if after > end:
        raise Truncated("data ends inside a CID", offset=position)
    return after


def _binary(text: str) -> bytes:
    text = text.removeprefix("/ipfs/").removeprefix("ipfs://")
    if len(text) == 46 and text.startswith("Qm"):
        return multibase.base58_decode(text)
    raw = multibase.decode(text)
    if raw[:1] == _V0_PREFIX[:1]:
        raise Malformed("a CIDv0 has no multibase prefix")
    return raw
