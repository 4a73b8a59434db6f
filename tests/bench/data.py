"""What is measured: CARs of many small blocks, a big file, and very many files; each made once."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from carlib.cid import Cid
from carlib.pack import pack
from carlib.writer import creating

RAW_SHA2_256 = bytes.fromhex("01551220")
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything; `--quick` takes little, to see that it all runs."""

    few_blocks: int = 131_072
    many_blocks: int = 1_000_000
    most_blocks: int = 10_000_000
    file_bytes: int = 1 << 30
    files: int = 100_000
    random_reads: int = 2_000


QUICK = Sizes(8_192, 20_000, 50_000, 32 << 20, 1_000, 100)
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

    def file(self) -> Path:
        """A big file of pseudo-random bytes."""
        return self._made("file.bin", lambda path: _write_file(path, self.sizes.file_bytes))

    def file_car(self) -> Path:
        return self._made("file.car", lambda path: pack(self.file(), path))

    def tree(self) -> Path:
        """Very many small files, a hundred in a folder."""
        return self._made("tree", lambda path: _write_tree(path, self.sizes.files))

    def tree_car(self) -> Path:
        return self._made("tree.car", lambda path: pack(self.tree(), path))

    def tar(self, name: str) -> Path:
        """The file or the tree of that name in an uncompressed tar."""
        source = {"file": self.file, "tree": self.tree}[name]()
        return self._made(f"{name}.tar", lambda path: _write_tar(path, source))

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
    with creating(path, version=version, roots=[small_cid(0)], deduplicate=False) as car:
        for number in range(count):
            car.put(small_cid(number), small_block(number))
        car.finish()


def _write_file(path: Path, size_bytes: int) -> None:
    generator = np.random.Generator(np.random.SFC64(1))
    with path.open("wb") as file:
        for _ in range(0, size_bytes, PIECE_BYTES):
            file.write(generator.bytes(PIECE_BYTES))


def _write_tree(path: Path, files: int) -> None:
    for number in range(files):
        folder = path / f"{number // 100:04}"
        if number % 100 == 0:
            folder.mkdir(parents=True)
        (folder / f"{number % 100:02}.txt").write_text(f"file {number}\n")


def _write_tar(path: Path, source: Path) -> None:
    with tarfile.open(path, "w") as tar:
        tar.add(source, source.name)
