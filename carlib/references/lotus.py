"""Ref-CARs that Lotus wrote: leaves as go-filestore records under CIDs that are database keys.

A leaf's section has, instead of its bytes, a protobuf ``DataObj {1: FilePath, 2: Offset, 3: Size}``, and as its CID
the raw CIDv1 of the key ``/filestore/`` + BASE32(multihash): by identity until February 2022, by sha2-256 since.  So
those sections do not hash to their CIDs, on purpose.  Source: go-fil-markets ``stores/filestore.go``, go-filestore
``dataobj.proto``.
"""

from __future__ import annotations

from typing import Final

from carlib import varint
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import RAW, Cid
from carlib.errors import BlockNotFound, Malformed
from carlib.limits import MAX_BLOCK_BYTES
from carlib.multibase import base32_encode
from carlib.multihash import IDENTITY, SHA2_256
from carlib.references.target import Reference, Target

_PATH, _OFFSET, _SIZE = 0x0A, 0x10, 0x18
_MAX_RECORD: Final = 64 * 1024


def key_of(multihash: bytes) -> bytes:
    """The database key of a leaf."""
    return b"/filestore/" + base32_encode(multihash).upper().encode()


class LotusReferences:
    """References in a CAR that Lotus wrote; ``store`` must not verify, as its references do not hash."""

    def __init__(self, store: ReadOnlyBlockstore) -> None:
        self._store = store

    def find(self, cid: Cid) -> Reference | None:
        """Where the leaf lies; raises Malformed for a record that is none."""
        key = key_of(cid.multihash)
        for code in (SHA2_256, IDENTITY):
            try:
                record = self._store.stored(Cid.of(key, RAW, code))
            except BlockNotFound:
                continue
            return parse_record(record)
        return None


def parse_record(record: bytes) -> Reference:
    """A ``DataObj``, its three fields in any order; raises Malformed, Truncated."""
    if len(record) > _MAX_RECORD:
        raise Malformed(f"a filestore record of {len(record)} bytes")
    fields: dict[int, int] = {}
    path, position = b"", 0
    while position < len(record):
        tag, position = varint.decode(record, position, len(record))
        value, position = varint.decode(record, position, len(record))
        if tag == _PATH:
            if value > len(record) - position:
                raise Malformed("a filestore record's path is cut short", offset=position)
            path, position = record[position : position + value], position + value
        elif tag in (_OFFSET, _SIZE):
            fields[tag] = value
        else:
            raise Malformed(f"a filestore record has the unknown field {tag >> 3}", offset=position)
    size = fields.get(_SIZE, 0)
    if not path or size > MAX_BLOCK_BYTES:
        raise Malformed(f"a filestore record of {size} bytes in {path[:80]!r}")
    return Reference(Target(path), fields.get(_OFFSET, 0), size)
