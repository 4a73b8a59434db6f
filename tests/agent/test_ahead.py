"""Foreseeing what a scan of remote data reads: few waits for many blocks, whatever their sizes."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from pathlib import Path

import pytest

from agent.dagstore.ahead import WINDOW_BYTES, ForeseeingSource
from carlib import indexing
from carlib.cid import Cid
from carlib.header import V1Header
from carlib.section import encode_head
from carlib.source import FileSource

CHUNK = 1 << 16
KIB, MIB = 1 << 10, 1 << 20
NODE = 8 * KIB


class Distant:
    """A file of which nothing is here: counts the reads that had to wait, and the chunks that were fetched."""

    def __init__(self, path: Path) -> None:
        self._file = FileSource(path)
        self.name = self._file.name
        self.size = self._file.size
        self.here: set[int] = set()
        self.waits = 0

    def _get(self, offset: int, length: int) -> bool:
        chunks = set(range(offset // CHUNK, -(-min(offset + length, self.size) // CHUNK)))
        lacked = bool(chunks - self.here)
        self.here |= chunks
        return lacked

    def pread(self, offset: int, length: int) -> bytes:
        self.waits += self._get(offset, length)
        return self._file.pread(offset, length)

    def peek(self, offset: int, length: int) -> bytes:
        self.waits += self._get(offset, length)
        return self._file.peek(offset, length)

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        for offset, length in ranges:
            self._get(offset, length)

    def renew(self, offset: int, length: int) -> None:
        raise AssertionError

    def stamp(self) -> Hashable:
        return 0

    def close(self) -> None:
        self._file.close()


def write_sparse_car(path: Path, sizes: Sequence[int]) -> Path:
    """A CARv1 with blocks of these sizes, all of zeros and none of them what its CID says; takes no room on disk."""
    with path.open("wb") as file:
        file.write(V1Header((Cid.of(b"root"),)).encode())
        for number, size in enumerate(sizes):
            file.write(encode_head(Cid.of(b"%d" % number).raw, size))
            file.seek(size, os.SEEK_CUR)
        file.truncate(file.tell())
    return path


@pytest.mark.parametrize(
    ("sizes", "most_waits", "most_part"),
    [
        ([MIB] * 1000, 3, 0.08),
        ([256 * KIB] * 1000, 3, 0.3),
        (([256 * KIB] * 174 + [NODE]) * 6, 10, 0.35),  # as Kubo writes a file of 256 KiB leaves
        ([100] * 200_000, 3, 1.0),
        ([50 * KIB] * 2000, 3, 1.0),
        ([MIB, 300 * KIB] * 300, 6, 0.15),
    ],
)
def test_a_scan_waits_for_few_of_its_reads(
    tmp_path: Path, sizes: list[int], most_waits: int, most_part: float
) -> None:
    car = write_sparse_car(tmp_path / "x.car", sizes)
    source = Distant(car)
    report = indexing.build(ForeseeingSource(source), tmp_path / "found", window_bytes=WINDOW_BYTES)
    indexing.build(car, tmp_path / "expected")
    source.close()
    assert report.block_count == len(sizes)
    assert (tmp_path / "found").read_bytes() == (tmp_path / "expected").read_bytes()
    assert source.waits <= most_waits
    assert len(source.here) * CHUNK <= most_part * source.size + MIB
