"""Referenced blocks read and hashed, in the order in which they lie in the files, in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from carlib import multihash
from carlib.ahead import ahead
from carlib.errors import HashMismatch
from carlib.limits import MIB
from carlib.references.records import Numbers, Records
from carlib.references.target import BrokenReference, Reference, Targets

_BATCH_BYTES: Final = 4 * MIB
_BATCH_BLOCKS: Final = 256

Tell = Callable[[int, int], None]
"""Takes bytes done and bytes in all."""


def broken(records: Records, targets: Targets, numbers: Numbers, tell: Tell | None = None) -> Iterator[int]:
    """Those of ``numbers`` whose bytes are not where the record says, or are others.

    Memory is bounded.  Raises UnknownHash where nobody could tell.
    """
    total, done = int(records.rows["size"][numbers].sum()), 0

    def check(batch: list[int]) -> tuple[int, list[int]]:
        size = sum(int(records.rows["size"][number]) for number in batch)
        return size, [number for number in batch if not holds(records, targets, number)]

    for size, wrong in ahead(check, _batches(records, numbers), threads=multihash.hashing_threads()):
        yield from wrong
        done += size
        if tell is not None:
            tell(done, total)


def holds(records: Records, targets: Targets, number: int, at: Reference | None = None) -> bool:
    """Whether the block lies ``at`` that place, or where its record says."""
    try:
        multihash.check(records.cid(number), targets.read(at or records.reference(number)))
    except (BrokenReference, HashMismatch):
        return False
    return True


def _batches(records: Records, numbers: Numbers) -> Iterator[list[int]]:
    batch: list[int] = []
    size = 0
    for number in numbers.tolist():
        batch.append(number)
        size += int(records.rows["size"][number])
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_BLOCKS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
