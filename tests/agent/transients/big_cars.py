"""A CARv2 of any size that takes no time to write: real blocks where they are asked for, holes for all others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from carlib import indexing
from carlib.cid import Cid
from carlib.header import PRAGMA, V2_HEADER_BYTES, V1Header, V2Header
from carlib.section import encode_head

MIB = 1 << 20


class Sink:
    """Keeps what a builder puts."""

    def __init__(self) -> None:
        self.blocks: list[tuple[Cid, bytes]] = []

    def put(self, cid: Cid, data: bytes, /) -> None:
        self.blocks.append((cid, bytes(data)))


def write_big_car(
    path: Path,
    root: Cid,
    blocks: Sequence[tuple[Cid, bytes]],
    *,
    size: int,
    filler: int = MIB,
    version: int = 2,
) -> Path:
    """A CAR of about `size` bytes: `blocks` in its middle, before and behind them blocks of `filler` zeros under CIDs
    that are not theirs."""
    count = size // filler
    start = len(PRAGMA) + V2_HEADER_BYTES if version == 2 else 0
    with path.open("wb") as file:
        file.seek(start)
        file.write(V1Header((root,)).encode())
        for number in range(count):
            if number == count // 2:
                for cid, data in blocks:
                    file.write(encode_head(cid.raw, len(data)) + data)
            file.write(encode_head(Cid.of(b"filler %d" % number).raw, filler))
            file.seek(filler, os.SEEK_CUR)
        end = file.tell()
        file.truncate(end)
        if version == 2:
            file.seek(0)
            file.write(PRAGMA + V2Header(start, end - start).encode())
    if version == 2:
        index = path.with_suffix(".index")
        indexing.build(path, index)
        with path.open("r+b") as file:
            file.write(PRAGMA + V2Header(start, end - start, end).encode())
            file.seek(end)
            file.write(index.read_bytes())
        index.unlink()
    return path
