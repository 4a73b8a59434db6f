"""Counts and sizes of a CAR, as go-car's ``Inspect`` gives them, and its report in text.

Source: go-car v2, ``Reader.Inspect`` and ``car inspect``; averages are integers, a zero-length section is the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from carlib.blockstore import own_index
from carlib.checked import CheckedBlocks
from carlib.cid import Cid, codec_name
from carlib.container import Container, read_container
from carlib.index import CODEC_NAMES
from carlib.multihash import NAMES
from carlib.section import Sections
from carlib.source import ByteSource, FileSource


@dataclass(slots=True)
class Spread:
    """Least, mean and greatest of some lengths in bytes; zeros where there were none."""

    least: int = 0
    greatest: int = 0
    total: int = 0
    count: int = 0

    def add(self, length: int) -> None:
        self.least = length if not self.count else min(self.least, length)
        self.greatest = max(self.greatest, length)
        self.total += length
        self.count += 1

    @property
    def mean(self) -> int:
        return self.total // self.count if self.count else 0


@dataclass(slots=True)
class Stats:
    """What a CAR holds; ``index_codec`` is 0 where there is no index that can be read."""

    container: Container
    index_codec: int = 0
    roots_present: bool = False
    codecs: Counter[int] = field(default_factory=Counter)
    hashes: Counter[int] = field(default_factory=Counter)
    cid_lengths: Spread = field(default_factory=Spread)
    block_lengths: Spread = field(default_factory=Spread)

    @property
    def block_count(self) -> int:
        return self.block_lengths.count


_TELL_EVERY: Final = 4096


def inspect(path: Path, *, full: bool = False, progress: Callable[[int, int], None] | None = None) -> Stats:
    """Look at every section of the CAR at ``path``; ``full`` hashes every block and raises HashMismatch at the first
    bad one.

    ``progress`` is told bytes done and bytes in all.  Raises CarError, OSError.
    """
    with FileSource(path) as source:
        container = read_container(source)
        index = own_index(source, container)
        stats = Stats(container, index.codec if index is not None else 0)
        absent = {root for root in container.roots if not root.is_identity}
        for cid, offset, size in _blocks(source, container, full):
            if progress is not None and (full or stats.block_count % _TELL_EVERY == 0):
                progress(offset, container.data_end)
            stats.codecs[cid.codec] += 1
            stats.hashes[cid.hash_code] += 1
            stats.cid_lengths.add(len(cid.raw))
            stats.block_lengths.add(size)
            absent.discard(cid)
        stats.roots_present = not absent
    return stats


def report(stats: Stats) -> str:
    """The report that ``car inspect`` prints, line for line."""
    container = stats.container
    lines = [f"Version: {container.version}"]
    if container.version == 2:
        index = CODEC_NAMES.get(stats.index_codec, "(none)")
        lines += [
            f"Characteristics: {container.characteristics:032x}",
            f"Data offset: {container.data_offset}",
            f"Data (payload) length: {container.data_size}",
            f"Index offset: {container.index_offset}",
            f"Index type: {index}",
        ]
    match container.roots:
        case ():
            lines.append("Roots: (none)")
        case (root,):
            lines.append(f"Roots: {root}")
        case roots:
            lines += ["Roots:", *(f"\t{root}" for root in roots)]
    lines.append("Root blocks present in data: " + ("Yes" if stats.roots_present else "No"))
    lines.append(f"Block count: {stats.block_count}")
    for what, spread in (("block", stats.block_lengths), ("CID", stats.cid_lengths)):
        lines.append(
            f"Min / average / max {what} length (bytes): {spread.least} / {spread.mean} / {spread.greatest}"
        )
    lines.append("Block count per codec:")
    lines += [f"\t{codec_name(code)}: {count}" for code, count in sorted(stats.codecs.items())]
    lines.append("CID count per multihash:")
    lines += [f"\t{NAMES.get(code, hex(code))}: {count}" for code, count in sorted(stats.hashes.items())]
    return "\n".join(lines)


def _blocks(source: ByteSource, container: Container, full: bool) -> Iterator[tuple[Cid, int, int]]:
    """The CID, offset and size of each."""
    if full:
        for block in CheckedBlocks(source, container):
            if block.problem is not None:
                raise block.problem
            yield block.cid, block.offset, len(block.data)
        return
    for raw, offset, _data, size in Sections(
        source, container.first_section, container.data_end, zero_is_end=True
    ):
        yield Cid(raw), offset, size
