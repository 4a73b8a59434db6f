"""Small CARs that tests of carlib make: blocks of several kinds, and files around them."""

from __future__ import annotations

from pathlib import Path

from carlib import multihash, varint
from carlib.cid import DAG_CBOR, DAG_PB, RAW, Cid
from carlib.header import V1Header

HELLO = Cid.of(b"hello")
V0 = Cid(Cid.of(b"\x0a\x02\x08\x01", DAG_PB).multihash)
BLOCKS = [
    (HELLO, b"hello"),
    (V0, b"\x0a\x02\x08\x01"),
    (Cid.of(b"\xa0", DAG_CBOR), b"\xa0"),
    (Cid.of(b"long digest", RAW, multihash.SHA2_512), b"long digest"),
    (Cid.of(b"chain", DAG_CBOR, multihash.BLAKE2B_256), b"chain"),
    (Cid.of(b""), b""),
    (Cid.identity(b"in the CID"), b"in the CID"),
]
"""One block of each kind: CIDv0 and v1, four hash functions, empty, identity."""


def section(cid: Cid, data: bytes) -> bytes:
    """One section as it stands in a CARv1."""
    return varint.encode(len(cid.raw) + len(data)) + cid.raw + data


def car_v1(blocks: list[tuple[Cid, bytes]], roots: tuple[Cid, ...] = (HELLO,)) -> bytes:
    """A whole CARv1."""
    return V1Header(roots).encode() + b"".join(section(cid, data) for cid, data in blocks)


def write_car(
    path: Path, blocks: list[tuple[Cid, bytes]] = BLOCKS, roots: tuple[Cid, ...] = (HELLO,)
) -> Path:
    """A CARv1 file at ``path``."""
    path.write_bytes(car_v1(blocks, roots))
    return path


def many_blocks(count: int, size: int = 20) -> list[tuple[Cid, bytes]]:
    """``count`` different raw blocks of ``size`` bytes."""
    datas = [number.to_bytes(8, "big").ljust(size, b".") for number in range(count)]
    return [(Cid.of(data), data) for data in datas]
