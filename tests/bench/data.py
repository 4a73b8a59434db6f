"""What is measured: CARs of many small blocks, a big file, and very many files; each made once."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from carlib import dagcbor
from carlib.cid import DAG_CBOR, Cid
from carlib.frame import extract_v1
from carlib.options import WriteOptions
from carlib.pack import pack
from carlib.writer import creating

RAW_SHA2_256 = bytes.fromhex("01551220")
PIECE_BYTES = 1 << 20
BIG_FILE = "file.bin"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything; `--quick` takes little, to see that it all runs."""

    few_blocks: int = 131_072
    many_blocks: int = 1_000_000
    most_blocks: int = 10_000_000
    file_bytes: int = 1 << 30
    files: int = 100_000
    random_reads: int = 2_000
    large_bytes: int = 4 << 30


QUICK = Sizes(8_192, 20_000, 50_000, 32 << 20, 1_000, 100, 64 << 20)
SMALL_BLOCK_BYTES = 200


class Data:
    """The files below one folder, made when they are first asked for."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder = folder
        self.sizes = sizes
        folder.mkdir(parents=True, exist_ok=True)

    def blocks(self, count: int, version: int = 2) -> Path:
        """A CAR of `count` raw blocks of 200 bytes, indexed if it is a CARv2."""
        return self._made(f"blocks-{count}.v{version}.car", lambda path: _write_blocks(path, count, version))

    def records(self) -> Path:
        """A CARv1 of as many dag-cbor records of about 250 bytes, as the repositories of AT Protocol hold them."""
        count = self.sizes.few_blocks
        return self._made(f"records-{count}.car", lambda path: _write_records(path, count))

    def source(self, name: str) -> Path:
        """A folder of plain files: "one" big file of pseudo-random bytes, a "large" one that is
        bigger still, or a "tree" of very many small ones."""
        makers = {
            "one": lambda path: _write_file(path, self.sizes.file_bytes),
            "large": lambda path: _write_file(path, self.sizes.large_bytes),
            "tree": lambda path: _write_tree(path, self.sizes.files),
        }
        return self._made(name, makers[name])

    def car(self, name: str) -> Path:
        """The same folder as a CAR."""
        return self._made(f"{name}.car", partial(pack, self.source(name)))

    def unwrapped(self, name: str) -> Path:
        """The same CAR as a CARv1, without an index."""
        return self._made(f"{name}.v1.car", partial(extract_v1, self.car(name)))

    def tar(self, name: str) -> Path:
        """The same folder in an uncompressed tar."""
        return self._made(f"{name}.tar", partial(_write_tar, self.source(name)))

    def scratch(self, name: str) -> Path:
        """A path for output, with nothing there."""
        path = self.folder / "scratch" / name
        path.parent.mkdir(exist_ok=True)
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        return path

    def _made(self, name: str, make: Callable[[Path], object]) -> Path:
        path = self.folder / name
        if not path.exists():
            making = self.folder / f"making-{name}"
            shutil.rmtree(making, ignore_errors=True)
            make(making)
            making.rename(path)
        return path


def small_block(number: int) -> bytes:
    """The data of block `number` of the CARs of small blocks."""
    return number.to_bytes(8, "little") * (SMALL_BLOCK_BYTES // 8)


def small_cid(number: int) -> Cid:
    return Cid(RAW_SHA2_256 + hashlib.sha256(small_block(number)).digest())


def _write_blocks(path: Path, count: int, version: int) -> None:
    with creating(path, WriteOptions(version=version, allow_duplicates=True), roots=[small_cid(0)]) as car:
        for number in range(count):
            car.put(small_cid(number), small_block(number))
        car.finish()


def record(number: int) -> dict[str, object]:
    """Like a post in AT Protocol, which answers to the one before it."""
    before = Cid.of(number.to_bytes(8, "big"), DAG_CBOR)
    return {
        "$type": "app.bsky.feed.post",
        "createdAt": f"2025-01-01T00:00:{number % 60:02}.{number % 1000:03}Z",
        "langs": ["en"],
        "reply": {"parent": {"cid": before, "uri": f"at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/{number:013}"}},
        "text": f"Record {number}, which says nothing that would matter to anybody.",
    }


def _write_records(path: Path, count: int) -> None:
    blocks = [dagcbor.encode(record(number)) for number in range(count)]
    with creating(path, WriteOptions(version=1), roots=[Cid.of(blocks[0], DAG_CBOR)]) as car:
        for block in blocks:
            car.put(Cid.of(block, DAG_CBOR), block)
        car.finish()


def _write_file(folder: Path, size_bytes: int) -> None:
    generator = np.random.Generator(np.random.SFC64(1))
    folder.mkdir()
    with (folder / BIG_FILE).open("wb") as file:
        for _ in range(0, size_bytes, PIECE_BYTES):
            file.write(generator.bytes(PIECE_BYTES))


def _write_tree(folder: Path, files: int) -> None:
    for number in range(files):
        below = folder / f"{number // 100:04}"
        if number % 100 == 0:
            below.mkdir(parents=True)
        (below / f"{number % 100:02}.txt").write_text(f"file {number}\n")


def _write_tar(source: Path, path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        tar.add(source, ".")
