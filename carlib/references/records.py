"""All references of a ref-CAR at once, ours or Lotus': which file, which bytes, which hash; in 24 bytes of memory each.

What checking, linking anew and repairing begin with; readers search the table in place instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from carlib import varint
from carlib.cid import RAW, Cid
from carlib.errors import Malformed
from carlib.index import OFFSET_BYTES
from carlib.limits import MAX_BLOCK_BYTES
from carlib.links import links
from carlib.references.table import RECORD_FIELDS, VOID, ReferenceTable
from carlib.references.target import Reference, Target

if TYPE_CHECKING:
    from carlib.references.store import ReferenceBlockstore

Numbers = npt.NDArray[np.int64]
_FIELDS: Final = np.dtype(list(RECORD_FIELDS))


class Records:
    """References by number.  ``rows`` has the fields ``file``, ``size`` and ``offset``, as they are changed by who may
    change them."""

    def __init__(
        self, files: Sequence[Target], rows: npt.NDArray[np.void], multihash: Callable[[int], bytes]
    ) -> None:
        self.files = tuple(files)
        self.rows = rows
        self.multihash = multihash

    @classmethod
    def of(cls, store: ReferenceBlockstore) -> Records:
        """Those of ``store``; raises Malformed where the table contradicts itself, other CarErrors, OSError."""
        table = store.references
        return _of_table(table) if isinstance(table, ReferenceTable) else _of_links(store)

    def __len__(self) -> int:
        return len(self.rows)

    def cid(self, number: int) -> Cid:
        """The block's, as a raw CIDv1."""
        return Cid.v1(RAW, self.multihash(number))

    def reference(self, number: int) -> Reference:
        row = self.rows[number]
        return Reference(self.files[int(row["file"])], int(row["offset"]), int(row["size"]))

    def valid(self) -> Numbers:
        """The numbers of all that say something, in the order in which their bytes lie in the files."""
        return self.ordered(np.flatnonzero(self.rows["file"] != VOID))

    def within(self, files: Sequence[int]) -> Numbers:
        """Of those files alone, in that order."""
        wanted = np.zeros(len(self.files), bool)
        wanted[list(files)] = True
        numbers = self.valid()
        inside: Numbers = numbers[wanted[self.rows["file"][numbers]]]
        return inside

    def ordered(self, numbers: Numbers) -> Numbers:
        rows = self.rows[numbers]
        ordered: Numbers = numbers[np.lexsort((rows["offset"], rows["file"]))]
        return ordered

    def bytes_of_files(self) -> Numbers:
        """How much of each file is referenced."""
        rows = self.rows[self.rows["file"] != VOID]
        sums: Numbers = np.bincount(rows["file"], rows["size"], len(self.files)).astype(np.int64)
        return sums


def _of_table(table: ReferenceTable) -> Records:
    rows = np.frombuffer(bytearray().join(table.records()), _FIELDS)
    named = rows[rows["file"] != VOID]
    if (named["file"] >= len(table.files)).any() or (named["size"] > MAX_BLOCK_BYTES).any():
        raise Malformed("a reference to a file that is not listed, or to more than a block")
    ordinals = np.full(len(rows), -1, np.int64)
    index = table.index
    for bucket in index.buckets:
        for first, piece in index.pieces(bucket):
            entries = np.frombuffer(piece, np.uint8).reshape(-1, bucket.width)
            numbers = np.ascontiguousarray(entries[:, -OFFSET_BYTES:]).view("<u8").reshape(-1)
            if (numbers >= len(rows)).any():
                raise Malformed("a block is listed whose reference is not there")
            start = bucket.first_ordinal + first
            ordinals[numbers.astype(np.int64)] = np.arange(start, start + len(numbers))
    if len(index) != len(rows) or (ordinals < 0).any():
        raise Malformed("references and the list of their blocks are not of each other")

    def multihash(number: int) -> bytes:
        entry = index.at(int(ordinals[number]))
        return varint.encode(entry.hash_code or 0) + varint.encode(len(entry.digest)) + entry.digest

    return Records(tuple(table.files), rows, multihash)


def _of_links(store: ReferenceBlockstore) -> Records:
    """Lotus' key cannot be turned back into what it is the key of, so the links are asked."""
    files: dict[Target, int] = {}
    hashes: dict[bytes, None] = {}
    rows: list[tuple[int, int, int]] = []
    for cid in leaves(store):
        reference = None if cid.multihash in hashes else store.references.find(cid)
        if reference is not None:
            hashes[cid.multihash] = None
            file = files.setdefault(reference.target, len(files))
            rows.append((file, reference.size, reference.offset))
    return Records(tuple(files), np.array(rows, _FIELDS), list(hashes).__getitem__)


def leaves(store: ReferenceBlockstore) -> Iterator[Cid]:
    """What the inner nodes of ``store`` link to, and its roots, but for all that is in the CAR; repeated ones too."""
    yield from (root for root in store.roots if not root.is_identity and not store.store.has(root))
    for cid, _ in store.store.cids():
        if cid.codec != RAW:
            for link in links(cid, store.store.get(cid)):
                if not link.is_identity and not store.store.has(link):
                    yield link
    for root in store.roots:
        if root.is_identity:
            yield from (
                link
                for link in links(root, root.digest)
                if not link.is_identity and not store.store.has(link)
            )
