"""Taking over the index that a CARv2 carries, after looks that cost little: for data of which every byte has to be
fetched first.

Every entry must lie inside the data and stand in order.  Some, chosen by chance, must lead to a section of their
digest, and what stands behind it must be in the index too, as must the first section; behind the last one there may be
nothing but sections of identity CIDs and padding.  What that does not show, reading does: a block is never taken for
another, but one that the index lacks is not found.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from carlib import durable
from carlib.blockstore import own_index
from carlib.cid import Cid
from carlib.container import Container
from carlib.errors import CarError
from carlib.index import OFFSET_BYTES, Bucket, Index
from carlib.indexing import IndexReport
from carlib.limits import MIB
from carlib.section import HEAD_BYTES, read_head
from carlib.source import ByteSource

SAMPLES: Final = 4
"""Entries that are followed: each may cost a round trip."""
_MOST_BEHIND: Final = 1024
"""Sections of identity CIDs behind the last entry."""

Hint = Callable[[Sequence[tuple[int, int]]], None]
"""Is told offset and length of what will be read soon."""


class NotAdopted(Exception):
    """The index is not used, and why."""


def adopt(
    source: ByteSource, container: Container, out: Path, *, hint: Hint, samples: int = SAMPLES
) -> IndexReport:
    """Write the CARv2's own index to ``out``, where it appears complete and durable or not at all.

    Raises NotAdopted, OSError.
    """
    index = own_index(source, container)
    if index is None:
        raise NotAdopted("it has no index that can be read")
    hint([(index.start, index.end - index.start)])
    try:
        last = _last_offset(source, container, index)
        _check_samples(source, container, index, hint, samples)
        end = _end(source, container, index, last)
    except CarError as error:
        raise NotAdopted(str(error)) from error
    with durable.replacing(out) as file:
        for start in range(index.start, index.end, MIB):
            file.write(source.pread(start, min(MIB, index.end - start)))
    return IndexReport(
        version=container.version,
        roots=container.roots,
        data_offset=container.data_offset,
        data_size=end - container.data_offset,
        padding_size=container.data_end - end,
        block_count=len(index),
        identity_count=0,
        index_codec=index.codec,
        index_size=index.end - index.start,
    )


def _last_offset(source: ByteSource, container: Container, index: Index) -> int | None:
    """The greatest offset in the index, if there is any; NotAdopted for entries out of order or out of the data."""
    least, beyond = container.first_section - container.data_offset, container.data_size
    last: int | None = None
    for bucket in index.buckets:
        before = b""
        for entries in _pieces(source, bucket):
            offsets = entries[:, -OFFSET_BYTES:].copy().view("<u8").reshape(-1)
            if int(offsets.min()) < least or int(offsets.max()) >= beyond:
                raise NotAdopted("an entry lies outside of the data")
            if bucket.digest_bytes:
                digests = (
                    np.ascontiguousarray(entries[:, :-OFFSET_BYTES])
                    .view(f"S{bucket.digest_bytes}")
                    .reshape(-1)
                )
                if (digests[1:] < digests[:-1]).any() or entries[0, :-OFFSET_BYTES].tobytes() < before:
                    raise NotAdopted("its entries are not in order")
                before = entries[-1, :-OFFSET_BYTES].tobytes()
            last = max(last or 0, int(offsets.max()))
    return last


def _pieces(source: ByteSource, bucket: Bucket) -> Iterator[npt.NDArray[np.uint8]]:
    """The entries of a bucket, a row each, a MiB at a time."""
    step = max(1, MIB // bucket.width)
    for first in range(0, bucket.count, step):
        count = min(step, bucket.count - first)
        data = source.pread(bucket.start + first * bucket.width, count * bucket.width)
        yield np.frombuffer(data, np.uint8).reshape(count, bucket.width)


def _check_samples(source: ByteSource, container: Container, index: Index, hint: Hint, samples: int) -> None:
    """NotAdopted if an entry leads to no section of its digest, or a section that should be in the index is not."""
    chance = random.SystemRandom()  # whoever made the CAR must not know where we look
    entries = [index.at(ordinal) for ordinal in chance.sample(range(len(index)), min(samples, len(index)))]
    starts = [container.data_offset + entry.offset for entry in entries]
    hint([(start, HEAD_BYTES) for start in (*starts, container.first_section)])
    behind = [container.first_section]
    for entry, start in zip(entries, starts, strict=True):
        cid, end = _section(source, container, start)
        if cid.digest != entry.digest or entry.hash_code not in (None, cid.hash_code):
            raise NotAdopted(f"an entry leads to {start}, where another block lies")
        behind.append(end)
    hint([(start, HEAD_BYTES) for start in behind if start < container.data_end])
    for start in behind:
        if start < container.data_end and not _is_listed(source, container, index, start):
            raise NotAdopted(f"it lacks the block at {start}")


def _is_listed(source: ByteSource, container: Container, index: Index, start: int) -> bool:
    """Whether the section at ``start`` is in the index, or need not be: an identity CID, or padding."""
    if source.peek(start, 1) == b"\0":
        return True
    cid, _ = _section(source, container, start)
    offset = start - container.data_offset
    return cid.is_identity or any(found == offset for _, found in index.find(cid.hash_code, cid.digest))


def _section(source: ByteSource, container: Container, start: int) -> tuple[Cid, int]:
    """The CID of the section at ``start``, and where it ends."""
    piece = source.peek(start, min(HEAD_BYTES, container.data_end - start))
    head = read_head(piece, 0, len(piece))
    if head is None or start + head.end > container.data_end:
        raise NotAdopted(f"no whole section begins at {start}")
    return Cid(piece[head.cid : head.data]), start + head.end


def _end(source: ByteSource, container: Container, index: Index, last: int | None) -> int:
    """Where the last section ends; NotAdopted if some behind the last entry should be in the index."""
    if last is None:
        position = container.first_section
    else:
        _, position = _section(source, container, container.data_offset + last)
    for _ in range(_MOST_BEHIND):
        if position >= container.data_end or source.peek(position, 1) == b"\0":
            return position
        cid, end = _section(source, container, position)
        if not cid.is_identity:
            raise NotAdopted(f"it lacks the block at {position}")
        position = end
    raise NotAdopted("too much stands behind its last entry")
