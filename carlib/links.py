"""The links of a block by its codec: what traversal follows and verification of completeness asks for.

Blocks come from a blockstore and are verified already.  Links are found without building values, and no more is checked
than finding them needs: a block that is sound enough to have links has them, canonical or not.  A codec is added by one
line of :data:`SCANNERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from carlib import dagcbor, dagjson, dagpb
from carlib.cid import CBOR, DAG_CBOR, DAG_JSON, DAG_PB, JSON, LIBP2P_KEY, RAW, Cid, read_cid
from carlib.errors import CarError, UnknownCodec
from carlib.varint import Buffer

Scanner = Callable[[Buffer], Iterable[Cid]]
"""The links in a block, in the order they stand in it; raises CarError."""

_USUAL_CIDS: Final = frozenset(
    bytes.fromhex(prefix)
    for prefix in ("1220", "01551220", "01701220", "01711220", "0155a0e40220", "0170a0e40220", "0171a0e40220")
)
"""What stands before a 32-byte digest in CIDs that need no parsing."""


def links(cid: Cid, block: Buffer, *, unknown_is_leaf: bool = True) -> Sequence[Cid]:
    """The links of ``block``, whose CID is ``cid``, repeated ones too.

    A codec that we do not know has none, or raises UnknownCodec.  Raises Malformed, Truncated, LimitExceeded.
    """
    scanner = scanner_of(cid.codec, unknown_is_leaf=unknown_is_leaf)
    return () if scanner is None else tuple(scanner(block))


def scanner_of(codec: int, *, unknown_is_leaf: bool = True) -> Scanner | None:
    """How to find the links in blocks of ``codec``; None where they have none, so that they need not be read."""
    try:
        return SCANNERS[codec]
    except KeyError:
        if unknown_is_leaf:
            return None
        raise UnknownCodec(codec) from None


def _dag_pb(block: Buffer) -> Iterable[Cid]:
    # Old writers put Data before Links: the links are the same.
    return map(Cid, dagpb.columns(block, strict=False).cids)


def _dag_cbor(block: Buffer) -> Iterable[Cid]:
    """Blocks of a usual form are hopped through, 12 times as fast as the strict scan; that one has the last word."""
    found = _hop(block if type(block) is bytes else bytes(block))
    return dagcbor.links(block) if found is None else found


SCANNERS: Final[Mapping[int, Scanner | None]] = {
    RAW: None,
    DAG_PB: _dag_pb,
    DAG_CBOR: _dag_cbor,
    DAG_JSON: dagjson.links,
    CBOR: None,
    JSON: None,
    LIBP2P_KEY: None,
}
"""How links are found, by codec; None: its blocks have none."""
NAMES: Final = frozenset({0xF101, 0xF102})
"""Codecs of CIDs that name no block but a Filecoin piece or sector; state trees are full of them, and nobody follows
them (Lotus neither)."""

_LINK_HEAD: Final = bytes((0xD8, dagcbor.LINK_TAG))
_BYTES_8: Final = 0x58
_ITEM_BYTES: Final = bytes(
    1 + (head & 0x1F)
    if head >> 5 in (2, 3) and head & 0x1F < 24  # short bytes and text
    else 1 + (1 << (head & 0x1F) - 24 if head & 0x1F > 23 else 0)
    if head >> 5 in (0, 1) and head & 0x1F < 28  # integers
    else {0xF4: 1, 0xF5: 1, 0xF6: 1, 0xFB: 9}.get(head, 0)
    for head in range(256)
)
"""Bytes of an item by its first byte, 0 where that byte alone does not tell."""


def _hop(block: bytes) -> list[Cid] | None:
    """The links of a dag-cbor ``block``, or None where it is not as plain as this can take.

    Items are counted and not nested: ``due`` are those still to come, whatever they belong to.
    """
    found: list[Cid] = []
    if _LINK_HEAD not in block:
        return found
    position, due, end = 0, 1, len(block)
    try:
        while due:
            due -= 1
            head = block[position]
            if size := _ITEM_BYTES[head]:
                position += size
            elif head == _LINK_HEAD[0]:
                cid, position = _link(block, position)
                if cid is None:
                    return None
                found.append(cid)
            else:
                value, position = _argument(block, position)
                major = head >> 5
                if major in (2, 3):
                    position += value
                elif major in (4, 5):
                    due += value * (major - 3)
                else:
                    return None
    except (IndexError, CarError):
        return None
    return found if position == end else None


def _link(block: bytes, position: int) -> tuple[Cid | None, int]:
    """The link whose tag is at ``position`` and the position after it; None for what is no link of a usual form."""
    size, start = block[position + 2], position + 3
    if size == _BYTES_8:
        size, start = block[position + 3], position + 4
    else:
        size -= 0x40
    if block[position + 1] != dagcbor.LINK_TAG or not 1 < size < 256 or block[start]:
        return None, position
    end = start + size
    cid = block[start + 1 : end]
    if cid[:-32] not in _USUAL_CIDS and read_cid(cid, 0, len(cid)) != len(cid):
        return None, position
    return Cid(cid), end


def _argument(block: bytes, position: int) -> tuple[int, int]:
    """The argument of the item at ``position`` and where it ends; IndexError past the block or for no argument."""
    info = block[position] & 0x1F
    if info < 24:
        return info, position + 1
    if info > 27:
        raise IndexError
    end = position + 1 + (1 << info - 24)
    if end > len(block):
        raise IndexError
    return int.from_bytes(block[position + 1 : end], "big"), end
