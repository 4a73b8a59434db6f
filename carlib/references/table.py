"""The reference table of a ref-CARv2: which blocks lie where in which of the user's files.

The container is a CARv2 like any other: its payload has the inner nodes, its index lists them, and every tool reads it.
The table lies between payload and index, where CARv2 allows padding of any length and readers must not look; ours
begins there with a magic:

    8 bytes "carfsref" | u32 version 2 | u32 number of files | files, as in :mod:`carlib.references.files`
    u64 number of records | records: u32 file | u32 size | u64 offset          (16 bytes each)
    MultihashIndexSorted of the multihashes, whose "offsets" are numbers of records
    SHA-256 of all that                                                        (32 bytes)

All integers little-endian; a record whose file is 0xffffffff says nothing.  Look-ups search the index in place; nothing
is loaded.  The digest is for whoever wants to know whether the table itself is damaged; reading
needs none, since blocks have their own.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from carlib.cid import Cid
from carlib.container import Container
from carlib.errors import Malformed
from carlib.index import MULTIHASH_INDEX_SORTED, Index, write
from carlib.indexing import SortedRuns
from carlib.limits import MAX_BLOCK_BYTES, MIB
from carlib.references.files import Files, FileWriter
from carlib.references.target import Reference
from carlib.source import ByteSource

MAGIC: Final = b"carfsref"
VERSION: Final = 2
_HEAD: Final = struct.Struct("<8sII")
_COUNT: Final = struct.Struct("<Q")
_RECORD: Final = struct.Struct("<IIQ")
VOID: Final = 0xFFFFFFFF
"""The file of a record that says nothing."""
_DIGEST_BYTES: Final = 32
RECORD_FIELDS: Final = (("file", "<u4"), ("size", "<u4"), ("offset", "<u8"))
"""A record as numpy has it."""


class ReferenceTable:
    """The table in a ref-CARv2, searched in place."""

    def __init__(
        self,
        source: ByteSource,
        files: Files,
        records: int,
        count: int,
        index: Index,
        start: int = 0,
    ) -> None:
        self.files = files
        self.index = index
        self._start = start
        self._source = source
        self._records = records
        self._count = count

    @classmethod
    def find_in(cls, source: ByteSource, container: Container) -> ReferenceTable | None:
        """The table of the CAR in ``source``, or None where there is none.

        Raises Malformed, Truncated or LimitExceeded where it is broken.
        """
        start = container.data_end
        head = source.peek(start, _HEAD.size)
        if container.version != 2 or not head.startswith(MAGIC):
            return None
        if len(head) < _HEAD.size:
            raise Malformed("the reference table is cut short", source=source.name, offset=start)
        _magic, version, listed = _HEAD.unpack(head)
        if version != VERSION:
            raise Malformed(
                f"reference table version {version} is not supported", source=source.name, offset=start
            )
        files = Files(source, start + _HEAD.size, listed)
        counted = files.end
        (count,) = _COUNT.unpack(source.pread(counted, _COUNT.size))
        records = counted + _COUNT.size
        if count > (source.size - records) // _RECORD.size:
            raise Malformed(f"{count} references are announced", source=source.name, offset=counted)
        index = Index.open(source, records + count * _RECORD.size)
        return cls(source, files, records, count, index, start)

    def __len__(self) -> int:
        """Number of records."""
        return self._count

    def find(self, cid: Cid) -> Reference | None:
        """Where the block lies; raises Malformed where the table contradicts itself."""
        for _ordinal, number in self.index.find(cid.hash_code, cid.digest):
            return self.record(number)
        return None

    def check(self) -> None:
        """Nothing if the table is what was written, to the byte; Malformed, Truncated else.  Reads all of it."""
        digest, end = hashlib.sha256(), self.index.end
        for at in range(self._start, end, MIB):
            digest.update(self._source.pread(at, min(MIB, end - at)))
        if digest.digest() != self._source.pread(end, _DIGEST_BYTES):
            raise Malformed("the reference table is damaged", source=self._source.name, offset=self._start)

    def records(self) -> Iterator[bytes]:
        """All records as they stand there (:data:`RECORD_FIELDS`), in order, in pieces."""
        end = self._records + self._count * _RECORD.size
        for at in range(self._records, end, MIB):
            yield self._source.pread(at, min(MIB, end - at))

    def record(self, number: int) -> Reference | None:
        """One record, by its number; None for one that says nothing."""
        if not 0 <= number < self._count:
            raise Malformed(f"reference {number} of {self._count}", source=self._source.name)
        at = self._records + number * _RECORD.size
        file, size, offset = _RECORD.unpack(self._source.pread(at, _RECORD.size))
        if file == VOID:
            return None
        if file >= len(self.files) or size > MAX_BLOCK_BYTES:
            raise Malformed(f"reference to file {file}, {size} bytes", source=self._source.name, offset=at)
        return Reference(self.files[file], offset, size)


class TableWriter:
    """Gathers references while a CAR is written; :meth:`write` puts the table where it belongs."""

    def __init__(self, folder: Path) -> None:
        """Temporary files go to ``folder``.  References are to ``files`` by their numbers."""
        self.files = FileWriter()
        self._records = bytearray()
        self._runs = SortedRuns(folder, MULTIHASH_INDEX_SORTED)
        self._numbers: dict[bytes, int] = {}
        self._voided: set[int] = set()
        self._listed = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, cid: Cid, file: int, offset: int, size: int) -> None:
        """The block of ``cid`` is ``size`` bytes at ``offset`` of file number ``file``; what was said first holds."""
        number = self._numbers.setdefault(cid.multihash, len(self._numbers))
        record = _RECORD.pack(file, size, offset)
        if number == self._listed:
            self._records += record
            self._runs.add_one(cid.hash_code, cid.digest, number)
            self._listed = number + 1
        elif self._voided and number in self._voided:
            self._voided.discard(number)
            self._records[number * len(record) : (number + 1) * len(record)] = record

    def void(self, first: int) -> None:
        """Take back what was said from record ``first`` on: the file changed while it was read."""
        nothing = _RECORD.pack(VOID, 0, 0)
        self._voided.update(range(first, len(self)))
        self._records[first * len(nothing) :] = nothing * (len(self) - first)

    def write(self, out: BinaryIO) -> None:
        """The table at the place where ``out``, which can be read too, stands; once."""
        self._numbers.clear()  # what it takes is needed to sort the index
        start = out.tell()
        out.write(_HEAD.pack(MAGIC, VERSION, len(self.files)))
        self.files.write(out)
        out.write(_COUNT.pack(self._listed))
        out.write(self._records)
        write(out, MULTIHASH_INDEX_SORTED, self._runs.buckets())
        out.write(_digest(out, start))

    def close(self) -> None:
        self._runs.close()


def _digest(out: BinaryIO, start: int) -> bytes:
    """Of what stands in ``out`` from ``start`` on; it is left at its end."""
    digest = hashlib.sha256()
    out.seek(start)
    while piece := out.read(MIB):
        digest.update(piece)
    return digest.digest()
