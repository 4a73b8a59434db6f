"""The demo's CAR files: a tree, a big file, a CARv1, one with a flipped bit and one cut short; made once, then kept."""

from __future__ import annotations

import hashlib
import shutil
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from carlib.cid import RAW, Cid
from carlib.container import read_container
from carlib.durable import replacing
from carlib.pack import pack
from carlib.section import Section, Sections
from carlib.source import FileSource
from tests.fixtures import REPOSITORY

PIECE_BYTES = 1 << 20
SEED = 20241123

Say = Callable[[str], None]


def make(folder: Path, big_bytes: int, say: Say) -> dict[str, Path]:
    """The CAR files by the key they are to be registered under, in `folder`; what is there already stays."""
    cars = folder / "cars"
    cars.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[Path], None]] = {
        "stdlib": lambda out: _pack(_standard_library(folder / "stdlib"), out),
        "big": lambda out: _pack_big_file(folder, out, big_bytes),
        "docs-v1": _write_docs_as_v1,
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


def _pack(source: Path, out: Path) -> None:
    pack(source, out)


def _standard_library(folder: Path) -> Path:
    """A copy of the running interpreter's own standard library: real files, some thousand, that stay as they are."""
    if not folder.exists():
        ignored = shutil.ignore_patterns("__pycache__", "site-packages", "dist-packages")
        copying = folder.with_name(f"{folder.name}.copying")
        shutil.rmtree(copying, ignore_errors=True)
        shutil.copytree(sysconfig.get_path("stdlib"), copying, symlinks=True, ignore=ignored)
        copying.rename(folder)
    return folder


def _pack_big_file(folder: Path, out: Path, size_bytes: int) -> None:
    """Packs a file of pseudo-random bytes, the same ones everywhere, and keeps its sum but not the file."""
    big = folder / "big.bin"
    generator = np.random.Generator(np.random.SFC64(SEED))
    digest = hashlib.sha256()
    with big.open("wb") as file:
        for _ in range(0, size_bytes, PIECE_BYTES):
            piece = generator.bytes(PIECE_BYTES)
            digest.update(piece)
            file.write(piece)
    (folder / "big.sha256").write_text(f"{digest.hexdigest()}  mnt/shards/big/root\n")
    _pack(big, out)
    big.unlink()


def _write_docs_as_v1(out: Path) -> None:
    """This repository's pages, as the CARv1 that is the payload of their CARv2."""
    packed = out.with_name(f"{out.name}.v2")
    _pack(REPOSITORY / "docs", packed)
    with FileSource(packed) as source, replacing(out) as file:
        container = read_container(source)
        file.write(source.pread(container.data_offset, container.data_size))
    packed.unlink()


def _flip_a_bit(original: Path, out: Path) -> None:
    """A copy in which one bit of the largest file block is wrong."""
    data = bytearray(original.read_bytes())
    _cid, _offset, data_offset, size = max(_leaves(original), key=lambda section: section[3])
    data[data_offset + size // 2] ^= 1
    out.write_bytes(data)


def _leaves(car: Path) -> list[Section]:
    with FileSource(car) as source:
        container = read_container(source)
        sections = Sections(source, container.first_section, container.data_end)
        return [section for section in sections if Cid(section[0]).codec == RAW]


def _cut_short(original: Path, out: Path) -> None:
    """A copy that ends inside its last block, as an interrupted download would."""
    data = original.read_bytes()
    out.write_bytes(data[:-10])
