"""A ref-CAR made whole: every block of its DAGs in one CAR that needs no other file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from carlib.options import DEFAULT, WriteOptions
from carlib.references.store import ReferenceBlockstore
from carlib.traversal import Traversal
from carlib.writer import creating

_PROGRESS_BYTES = 1 << 20


def dense(
    store: ReferenceBlockstore,
    out: Path,
    options: WriteOptions = DEFAULT,
    *,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write all that is below the roots of ``store`` to ``out``, depth first and each block once; how many blocks.

    One pass, one block in memory at a time, each verified.  ``progress`` is given the bytes of blocks so far.  Raises
    BrokenReference where a file no longer has a block: then nothing is left behind; other CarErrors, OSError.
    """
    told = 0
    with creating(out, options, roots=store.roots) as writer:
        for visit in Traversal.of(store, *store.roots).walk():
            if visit.data is not None:
                writer.put(visit.cid, visit.data)
            if progress is not None and writer.data_bytes - told >= _PROGRESS_BYTES:
                told = writer.data_bytes
                progress(told)
        writer.finish()
    return writer.blocks
