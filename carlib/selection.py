"""CARs made of the blocks of other CARs: joined, without duplicates, filtered, cut into parts.

Blocks are copied in the order they lie in, each checked against its CID on the way; a bad one stops the work.
Every output appears complete and durable or not at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from carlib import varint
from carlib.checked import CheckedBlocks
from carlib.cid import Cid
from carlib.container import read_container
from carlib.errors import LimitExceeded
from carlib.header import V1Header
from carlib.options import DEFAULT, WriteOptions
from carlib.section import Sections
from carlib.source import FileSource
from carlib.usual import SHA2_256_PREFIXES
from carlib.writer import CarWriter, creating

Progress = Callable[[int, int], None]
_PROGRESS_EVERY = 1 << 22


def concat(
    sources: Sequence[Path],
    out: Path | BinaryIO,
    options: WriteOptions = DEFAULT,
    *,
    roots: Sequence[Cid] | None = None,
    progress: Progress | None = None,
) -> int:
    """The blocks of all ``sources`` in one CAR at ``out``, with their roots in order and once each, or with ``roots``.

    ``out`` may be a stream for a CARv1.  How many blocks were written.  Raises CarError, OSError.
    """
    if roots is None:
        roots = list(dict.fromkeys(root for source in sources for root in _roots(source)))
    with creating(out, options, roots=roots) as writer:
        for cid, data in _blocks(sources, progress):
            writer.put(cid, data)
        writer.finish()
    return writer.blocks


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """What was written and what was left out; bytes are those of blocks' data."""

    blocks: int
    bytes: int
    dropped: int
    dropped_bytes: int


def deduplicated(
    source: Path,
    out: Path | BinaryIO,
    options: WriteOptions = DEFAULT,
    *,
    progress: Progress | None = None,
) -> Deduplicated:
    """The CAR at ``source`` with each block once, where it stands first; ``options`` say which blocks are the same.

    ``out`` may be a stream for a CARv1.  Raises CarError, OSError.
    """
    dropped = dropped_bytes = 0
    with creating(out, options, roots=_roots(source)) as writer:
        for cid, data in _blocks([source], progress):
            if not writer.put(cid, data):
                dropped += 1
                dropped_bytes += len(data)
        writer.finish()
    return Deduplicated(writer.blocks, writer.data_bytes, dropped, dropped_bytes)


def filtered(
    source: Path,
    out: Path | BinaryIO,
    cids: Container[bytes],
    options: WriteOptions = DEFAULT,
    *,
    inverse: bool = False,
    roots: Sequence[Cid] | None = None,
    append: bool = False,
    progress: Progress | None = None,
) -> int:
    """The blocks of ``source`` whose binary CIDs are in ``cids`` (``inverse``: are not) as a CAR at ``out``.

    ``roots`` are those of the source if None; absent ones are allowed.  ``append`` puts them behind the blocks that
    ``out``, a file then, has already.  How many blocks were written in all.
    """
    before = [out] if append and isinstance(out, Path) else []
    if roots is None:
        roots = _roots(before[0] if before else source)
    with creating(out, options, roots=roots) as writer:
        if before:
            for cid, data in _blocks(before, None):
                writer.put(cid, data)
        for cid, data in _blocks([source], progress):
            if (cid.raw in cids) != inverse:
                writer.put(cid, data)
        writer.finish()
    return writer.blocks


def have_identity(sources: Sequence[Path], keep: Callable[[bytes], bool] = bool) -> bool:
    """Whether a section of one of ``sources`` is under an identity CID of which ``keep`` approves in binary.

    No data is read.  Raises CarError, OSError.
    """
    for path in sources:
        with FileSource(path) as source:
            found = read_container(source)
            sections = Sections(source, found.first_section, found.data_end, zero_is_end=True)
            others = (raw for raw, *_ in sections if raw[:4] not in SHA2_256_PREFIXES)
            if any(Cid(raw).is_identity and keep(raw) for raw in others):
                return True
    return False


def split(
    source: Path,
    size_bytes: int,
    name: Callable[[int], Path],
    options: WriteOptions = DEFAULT,
    *,
    blocks: Iterable[tuple[Cid, bytes | memoryview]] | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Cut the CAR at ``source`` into parts of at most ``size_bytes`` of payload, at ``name(0)``, ``name(1)`` …

    Every part has the roots of the source, and the parts one after the other have its blocks in its order (``blocks``,
    where another order is wanted: depth first, say), so that :func:`concat` makes it whole again.  Raises LimitExceeded
    where one block alone does not fit.
    """
    roots = _roots(source)
    room = size_bytes - len(V1Header(roots).encode())
    parts: list[Path] = []
    with contextlib.ExitStack() as stack:
        writer: CarWriter | None = None
        for cid, data in _blocks([source], progress) if blocks is None else blocks:
            length = _section_length(cid, len(data))
            if length > room:
                raise LimitExceeded("a section", length, room, source=str(source))
            if writer is None or writer.payload_size + length > size_bytes:
                if writer is not None:
                    writer.finish()
                    stack.close()
                parts.append(name(len(parts)))
                writer = stack.enter_context(creating(parts[-1], options, roots=roots))
            writer.put(cid, data)
        if writer is None:
            parts.append(name(0))
            writer = stack.enter_context(creating(parts[-1], options, roots=roots))
        writer.finish()
    return parts


def _section_length(cid: Cid, size: int) -> int:
    length = len(cid.raw) + size
    return len(varint.encode(length)) + length


def _roots(path: Path) -> tuple[Cid, ...]:
    with FileSource(path) as source:
        return read_container(source).roots


def _blocks(paths: Sequence[Path], progress: Progress | None) -> Iterator[tuple[Cid, memoryview]]:
    """Every block, checked."""
    total = sum(path.stat().st_size for path in paths)
    before = told = 0
    for path in paths:
        with FileSource(path) as source:
            for block in CheckedBlocks(source, read_container(source)):
                if block.problem is not None:
                    raise block.problem
                yield block.cid, block.data
                if progress is not None and before + block.offset - told > _PROGRESS_EVERY:
                    told = before + block.offset
                    progress(told, total)
        before += path.stat().st_size
    if progress is not None:
        progress(total, total)
