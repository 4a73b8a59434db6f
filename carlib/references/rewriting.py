"""A ref-CAR written anew, with the same blocks, and references that lead elsewhere: what relinking, repairing and
freezing end with.

The new file appears complete and durable in the place of the old one, whoever has that open, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from carlib import writer
from carlib.errors import HashMismatch
from carlib.references.lotus import LotusReferences
from carlib.references.records import Records
from carlib.references.store import ReferenceBlockstore
from carlib.references.table import VOID, TableWriter
from carlib.references.target import Target


def rewrite(store: ReferenceBlockstore, records: Records, files: Sequence[Target], out: Path) -> None:
    """Write ``store`` to ``out`` with ``records``, whose rows lead into ``files``.

    Lotus' references become ours.  Raises CarError where an inner node is damaged, OSError.
    """
    is_lotus = isinstance(store.references, LotusReferences)
    with writer.creating(out, roots=store.roots) as car:
        table = TableWriter(out.parent)
        try:
            for cid, _ in store.store.cids():
                try:
                    car.put(cid, store.store.get(cid))
                except HashMismatch:
                    if not is_lotus:  # whose references stand among the blocks
                        raise
            table.files.extend(files)
            for number in records.valid().tolist():
                row = records.rows[number]
                table.add(records.cid(number), int(row["file"]), int(row["offset"]), int(row["size"]))
            car.finish(between=table.write)
        finally:
            table.close()


def without(records: Records, files: Sequence[Target], drop: set[int]) -> list[Target]:
    """``files`` less those numbers, to which nothing may refer; the rows of ``records`` are renumbered."""
    kept = [number for number in range(len(files)) if number not in drop]
    numbers = np.full(len(files), VOID, np.uint32)
    numbers[kept] = np.arange(len(kept))
    says = records.rows["file"] != VOID
    records.rows["file"][says] = numbers[records.rows["file"][says]]
    return [files[number] for number in kept]
