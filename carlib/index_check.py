"""An index against the data that it speaks of, both ways: what it says that is not so, and what it does not say.

The truth is an index made anew from the sections; both are sorted, so one pass over each tells.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from carlib import indexing
from carlib.errors import CarError, Malformed
from carlib.index import Index
from carlib.source import FileSource

_Key = tuple[int, int, bytes]
"""Hash code (0 where the index does not keep it), digest size, digest: in the order of an index."""


def problems(car: Path, index: Index, name: str) -> Iterator[CarError]:
    """What is wrong with ``index`` of the CAR at ``car``; ``name`` is told as the source.

    Identity CIDs may be listed or not: both are in the field, whatever the header says.  Raises CarError where the
    index cannot be read, OSError.
    """
    with tempfile.TemporaryDirectory(prefix="carfs-") as folder:
        everything, least = Path(folder) / "everything", Path(folder) / "least"
        report = indexing.build(
            car, everything, codec=index.codec, identity=True, salvage=True, durably=False
        )
        if report.identity_count:
            indexing.build(car, least, codec=index.codec, salvage=True, durably=False)
        else:
            least = everything
        with FileSource(everything) as all_source, FileSource(least) as least_source:
            most, fewest = Index.open(all_source), Index.open(least_source)
            # As a rule it is what we would write: that takes a comparison, not a look at each entry (7 times as fast).
            if index.has_bytes_of(most) or index.has_bytes_of(fewest):
                return
            for (_, _, digest), offset in _excess(index, most):
                yield Malformed(
                    f"index says {digest.hex()} lies at {offset} of the data, where it does not", source=name
                )
            for (_, _, digest), offset in _excess(fewest, index):
                yield Malformed(
                    f"index lacks {digest.hex()}, which lies at {offset} of the data", source=name
                )


def _excess(left: Index, right: Index) -> Iterator[tuple[_Key, int]]:
    """The entries of ``left`` that ``right`` has not."""
    others = _groups(right)
    other = next(others, None)
    for key, offsets in _groups(left):
        while other is not None and other[0] < key:
            other = next(others, None)
        known = other[1] if other is not None and other[0] == key else set()
        for offset in sorted(offsets - known):
            yield key, offset


def _groups(index: Index) -> Iterator[tuple[_Key, set[int]]]:
    """The offsets of equal digests."""
    for (code, digest), entries in groupby(index, key=lambda entry: (entry.hash_code or 0, entry.digest)):
        yield (code, len(digest), digest), {entry.offset for entry in entries}
