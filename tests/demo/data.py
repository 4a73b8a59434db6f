"""The demo's CAR files: a tree, a big file, a CARv1, one with a flipped bit and one cut short; made once, then kept."""

from __future__ import annotations

import hashlib
import shutil
import sysconfig
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from carlib.blockstore import ReadOnlyBlockstore
from carlib.pack import pack
from carlib.unixfs import resolve
from carlib.unixfs.builder import Builder
from carlib.unixfs.profile import CARFS
from carlib.writer import creating
from tests.fixtures import REPOSITORY

SEED = 20241123

Say = Callable[[str], None]


def make(folder: Path, big_bytes: int, say: Say) -> dict[str, Path]:
    """The CAR files by the key they are to be registered under, in `folder`; what is there already stays."""
    cars = folder / "cars"
    cars.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[Path], object]] = {
        "stdlib": lambda out: pack(_standard_library(folder / "stdlib"), out),
        "big": lambda out: _stream_big_file(folder, out, big_bytes),
        "docs-v1": lambda out: pack(REPOSITORY / "docs", out, version=1),
        "damaged": lambda out: _flip_a_bit(cars / "docs-v1.car", out),
        "cut-short": lambda out: _cut_short(cars / "docs-v1.car", out),
    }
    made = {key: cars / f"{key}.car" for key in makers}
    for key, path in made.items():
        if not path.exists():
            started = time.monotonic()
            makers[key](path)
            say(f"made {path.name}: {path.stat().st_size:,} bytes in {time.monotonic() - started:.1f} s")
    return made


def _standard_library(folder: Path) -> Path:
    """A copy of the running interpreter's own standard library: real files, some thousand, that stay as they are."""
    if not folder.exists():
        ignored = shutil.ignore_patterns("__pycache__", "site-packages", "dist-packages")
        copying = folder.with_name(f"{folder.name}.copying")
        shutil.rmtree(copying, ignore_errors=True)
        shutil.copytree(sysconfig.get_path("stdlib"), copying, symlinks=True, ignore=ignored)
        copying.rename(folder)
    return folder


def _stream_big_file(folder: Path, out: Path, size_bytes: int) -> None:
    """A file of pseudo-random bytes, the same ones everywhere, that exists nowhere but in its CAR; and its sum."""
    generator = np.random.Generator(np.random.SFC64(SEED))
    digest = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        for _ in range(0, size_bytes, CARFS.chunk_size):
            piece = generator.bytes(CARFS.chunk_size)
            digest.update(piece)
            yield piece

    with ThreadPoolExecutor() as threads, creating(out) as writer:
        builder = Builder(writer, CARFS, threads)
        built = builder.file(pieces())
        builder.flush()
        writer.finish([built.cid])
    (folder / "big.sha256").write_text(f"{digest.hexdigest()}  mnt/shards/big/root\n")


def _flip_a_bit(original: Path, out: Path) -> None:
    """A copy in which one bit of the page `commands.md` is wrong."""
    with ReadOnlyBlockstore.open(original) as blocks:
        location = blocks.locate(resolve(blocks, blocks.roots[0], [b"commands.md"]))
    assert location is not None
    data = bytearray(original.read_bytes())
    data[location.data_offset + location.size // 2] ^= 1
    out.write_bytes(data)


def _cut_short(original: Path, out: Path) -> None:
    """A copy that ends inside its last block, as an interrupted download would."""
    data = original.read_bytes()
    out.write_bytes(data[:-10])
