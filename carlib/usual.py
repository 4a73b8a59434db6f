"""Sections of the usual form, many at once: in C (``_sections.c``) where that was built, else in Python.

Usual is a length of up to three bytes in its shortest form, 36 or more; CIDv0, or CIDv1 of raw, dag-pb or dag-cbor with
32 bytes of sha2-256; and all of it in the buffer.  All stop at the first section that is anything else, and
say nothing about it: whoever called them looks at that one itself.  So C cannot differ from Python but in speed, and
tests hold the two together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from carlib.varint import Buffer

SHA2_256_PREFIXES: Final = frozenset({b"\x01\x55\x12\x20", b"\x01\x70\x12\x20", b"\x01\x71\x12\x20"})
"""First bytes of nearly every CID there is: CIDv1, raw, dag-pb or dag-cbor, 32 bytes of sha2-256."""
USUAL_CID_BYTES: Final = 36
"""Length of those CIDs."""
V0_CID_BYTES: Final = 34
MAX_ABSENT: Final = 64
"""Digests that :func:`right` can stop at."""
DIGEST_BYTES: Final = 32
ENTRY_BYTES: Final = DIGEST_BYTES + 8
"""An entry of an index: digest and offset."""


def portable_hop(data: Buffer, start: int, limit: int) -> tuple[list[int], int]:
    """Where sections begin from ``start`` on, and where the one after them does, at ``limit`` or beyond it; less where
    a length of one or two bytes, not zero and in its shortest form, does not come next.  CIDs are not looked at."""
    starts: list[int] = []
    cursor, present = start, len(data)
    while cursor < limit:
        length = data[cursor]
        if 0 < length < 0x80:
            after = cursor + 1 + length
        elif length and cursor + 1 < present and 0 < (high := data[cursor + 1]) < 0x80:
            after = cursor + 2 + (length & 0x7F | high << 7)
        else:
            break
        starts.append(cursor)
        cursor = after
    return starts, cursor


def portable_right(data: Buffer, start: int, most: int, absent: bytes = b"") -> tuple[int, int]:
    """How many sections in a row from ``start`` on, ``most`` at most, hash to what their CIDs say, and the bytes of
    their data.  It also stops at a digest that is one of ``absent``, up to :data:`MAX_ABSENT` one after the other."""
    sha256, view = hashlib.sha256, memoryview(data)
    stop_at = {absent[at : at + DIGEST_BYTES] for at in range(0, len(absent), DIGEST_BYTES)}
    count = data_bytes = 0
    cursor, present = start, len(data)
    while count < most and present - cursor > USUAL_CID_BYTES:
        length, cid = data[cursor], cursor + 1
        if length > 0x7F:
            high, cid = data[cid], cid + 1
            length = length & 0x7F | (high & 0x7F) << 7
            if high > 0x7F:
                high, cid = data[cid], cid + 1
                length |= high << 14
            if not 0 < high < 0x80:
                break
        end = cid + length
        if length < USUAL_CID_BYTES or end > present:
            break
        if bytes(data[cid : cid + 2]) == b"\x12\x20":
            cid += 2
        elif bytes(data[cid : cid + 4]) in SHA2_256_PREFIXES:
            cid += 4
        else:
            break
        body = cid + DIGEST_BYTES
        digest = bytes(data[cid:body])
        if digest in stop_at or sha256(view[body:end]).digest() != digest:
            break
        count += 1
        data_bytes += end - body
        cursor = end
    return count, data_bytes


def portable_entries(data: Buffer, start: int, most: int, base: int) -> tuple[int, bytes]:
    """For how many sections in a row from ``start`` on, ``most`` at most, and their entries for an index one after the
    other: digest, and ``base`` added to where they begin in ``data``.  CIDv1 alone; the data need not be there; behind
    the entries may be bytes that mean nothing."""
    rows: list[bytes] = []
    cursor, present = start, len(data)
    while len(rows) < most and present - cursor > 2:
        length, cid = data[cursor], cursor + 1
        if length > 0x7F:
            high, cid = data[cid], cid + 1
            length = length & 0x7F | (high & 0x7F) << 7
            if high > 0x7F:
                high, cid = data[cid], cid + 1
                length |= high << 14
            if not 0 < high < 0x80:
                break
        body = cid + USUAL_CID_BYTES
        if length < USUAL_CID_BYTES or body > present or bytes(data[cid : cid + 4]) not in SHA2_256_PREFIXES:
            break
        rows.append(bytes(data[cid + 4 : body]) + (base + cursor).to_bytes(8, "little"))
        cursor = cid + length
    return len(rows), b"".join(rows)


Hop = Callable[[Buffer, int, int], tuple[list[int], int]]
Entries = Callable[[Buffer, int, int, int], tuple[int, bytes]]
Right = Callable[[Buffer, int, int, bytes], tuple[int, int]]

try:
    from carlib import _sections
except ImportError:  # not built: no compiler, or a machine that it does not know
    VARIANTS: tuple[str, ...] = ()
    hop: Hop = portable_hop
    right: Right = portable_right
    entries: Entries = portable_entries
else:
    VARIANTS = _sections.variants()
    hop = _sections.hop
    entries = _sections.entries
    # Without vectors made for it, hashlib may know instructions that our C does not (ARM's for SHA-2).
    right = portable_right if VARIANTS[0] == "baseline" else _sections.right


def variant(number: int) -> Right:
    """:func:`right` by the implementation called ``VARIANTS[number]``, for tests and measurements."""
    return lambda data, start, most, absent: _sections.right(data, start, most, absent, number)
