"""CARs for tests of the agent: small ones, and big ones that take a worker a while."""

from __future__ import annotations

from pathlib import Path

from carlib import varint
from carlib.cid import Cid
from carlib.header import V1Header

DATA = b"twenty bytes of data"
CID = Cid.of(DATA)
SECTION = varint.encode(len(CID.raw) + len(DATA)) + CID.raw + DATA


def write_car(path: Path, *, blocks: int = 3) -> Path:
    """A CARv1 whose blocks are all the same: indexing costs what it costs, writing it costs nothing."""
    path.write_bytes(V1Header((CID,)).encode() + SECTION * blocks)
    return path


def write_broken_car(path: Path) -> Path:
    """A CARv1 that ends in the middle of a block."""
    path.write_bytes((V1Header((CID,)).encode() + SECTION)[:-5])
    return path
