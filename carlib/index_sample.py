"""Some entries of an index, chosen by chance, against the data: an answer in a moment for an index of any size.

Each must lead to a whole section of its digest whose data hash to it, and be found by a search.  What the index lacks
is not seen here; :mod:`carlib.index_check` sees all.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from carlib import multihash
from carlib.cid import Cid
from carlib.container import Container
from carlib.errors import CarError, Malformed
from carlib.index import Entry, Index
from carlib.section import HEAD_BYTES, read_head
from carlib.source import ByteSource


def problems(
    source: ByteSource, container: Container, index: Index, name: str, count: int
) -> Iterator[CarError]:
    """What is wrong with ``count`` entries of ``index`` of the CAR in ``source``; ``name`` is told as the source.

    Raises CarError where the index cannot be read, OSError.
    """
    chance = random.SystemRandom()  # whoever made the CAR must not know where we look
    for ordinal in sorted(chance.sample(range(len(index)), min(count, len(index)))):
        problem = _problem(source, container, index, index.at(ordinal))
        if problem is not None:
            yield problem.located(source=name)


def _problem(source: ByteSource, container: Container, index: Index, entry: Entry) -> CarError | None:
    start = container.data_offset + entry.offset
    where = f"index says {entry.digest.hex()} lies at {entry.offset} of the data"
    if not container.first_section <= start < container.data_end:
        return Malformed(f"{where}, which is outside of it")
    piece = source.peek(start, min(HEAD_BYTES, container.data_end - start))
    try:
        head = read_head(piece, 0, len(piece))
        if head is None or start + head.end > container.data_end:
            return Malformed(f"{where}, where no whole section begins")
        cid = Cid(piece[head.cid : head.data])
        if cid.digest != entry.digest or entry.hash_code not in (None, cid.hash_code):
            return Malformed(f"{where}, where {cid} does")
        multihash.check(cid, source.pread(start + head.data, head.end - head.data))
    except CarError as error:
        return Malformed(f"{where}: {error.message}")
    if all(ordinal != entry.ordinal for ordinal, _ in index.find(cid.hash_code, cid.digest)):
        return Malformed(f"{where}, but its entry is out of order and cannot be found")
    return None
