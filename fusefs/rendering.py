"""The CARv1 that an import by reference would be if it had its leaves: what its CAR has, as it lies there, and then a
section for each leaf, in the order in which they lie in the user's files. It is stored nowhere.

    header and inner nodes, from the CAR | varint length | CID | bytes from the user's file, verified | …

Where which section ends takes 40 bytes of memory a leaf while somebody reads it, so there is a limit to how many.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

import numpy as np

from carlib import varint
from carlib.cid import Cid
from carlib.references import ReferenceBlockstore
from carlib.references.records import Records
from carlib.references.table import ReferenceTable

MOST_LEAVES: Final = 500_000
_CID_HEAD_BYTES: Final = 2  # version and codec


def obstacle(store: ReferenceBlockstore) -> str:
    """Why it cannot be rendered; "" if it can."""
    table = store.references
    if not isinstance(table, ReferenceTable):
        return "its references are Lotus', which do not tell what they are of"
    if len(table) > MOST_LEAVES:
        return f"{len(table)} leaves are more than the {MOST_LEAVES} whose places can be kept in mind"
    if len(table.index.buckets) > 1:
        return "its leaves have hashes of several kinds"
    return ""


class Rendering:
    """Where what of it comes from; used from several threads."""

    def __init__(self, store: ReferenceBlockstore, payload_size: int) -> None:
        """`payload_size`: of what the CAR has. Takes a moment, for a store without an `obstacle`; raises CarError."""
        table = store.references
        assert isinstance(table, ReferenceTable)
        records = Records.of(store)
        numbers = records.valid()
        cid_bytes = _CID_HEAD_BYTES
        if len(numbers):
            cid_bytes += len(records.multihash(int(numbers[0])))
        lengths = records.rows["size"][numbers].astype(np.int64) + cid_bytes
        prefixes = 1 + sum((lengths >= 1 << bits).astype(np.int64) for bits in (7, 14, 21, 28))
        self._records = records
        self._numbers = numbers
        self._ends = payload_size + np.cumsum(prefixes + lengths)
        self._payload_size = payload_size

    @property
    def size(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else self._payload_size

    def section(self, offset: int) -> tuple[int, bytes, Cid, int]:
        """Of the one at an offset behind the payload: its start, its length and CID, that CID, the size of its leaf."""
        place = bisect_right(self._ends, offset)
        start = int(self._ends[place - 1]) if place else self._payload_size
        number = int(self._numbers[place])
        cid, size = self._records.cid(number), int(self._records.rows[number]["size"])
        return start, varint.encode(len(cid.raw) + size) + cid.raw, cid, size
