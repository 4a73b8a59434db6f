"""dag-cbor: strict validation, links without decoding, values by cbor2.

``cbor2`` accepts nearly all that dag-cbor forbids, so :func:`scan` walks the bytes first: shortest integers, definite
lengths, text keys sorted by length then bytes and unique, tag 42 alone and holding a CID, 64-bit finite floats, nothing
after the value.  Source: IPLD, DAG-CBOR specification, Strictness.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any, Final

import cbor2

from carlib.cid import Cid, read_cid
from carlib.errors import CarError, LimitExceeded, Malformed, Truncated
from carlib.limits import MAX_NODE_DEPTH
from carlib.varint import Buffer

LINK_TAG: Final = 42
_UINT, _NINT, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_SIMPLE_VALUES: Final = (20, 21, 22)  # false, true, null
_FLOAT64: Final = 27


def decode(block: Buffer, *, strict: bool = True) -> Any:
    """The value of ``block``: dict, list, str, bytes, int, float, bool, None and :class:`Cid` for links.

    Strict: Malformed for all that dag-cbor forbids.  Not strict: text that is not UTF-8 comes with surrogate escapes
    (140 of the 1,043 blocks of the commonest Filecoin sample hold such text), everything else stays forbidden.
    """
    for _ in scan(block, text=strict):
        pass
    try:
        return cbor2.loads(bytes(block), tag_hook=_link, str_errors="strict" if strict else "surrogateescape")
    except CarError:
        raise
    except (cbor2.CBORDecodeError, ValueError, OverflowError, RecursionError) as error:
        raise Malformed(f"not dag-cbor: {error}") from None


def encode(value: Any) -> bytes:
    """The one dag-cbor form of ``value``; TypeError or ValueError for what dag-cbor cannot hold."""
    return b"".join(_encode(value, 0))


def links(block: Buffer) -> Iterator[Cid]:
    """The links of ``block`` in the order they stand in it, with no value built; text need not be UTF-8."""
    return scan(block, text=False)


def scan(block: Buffer, *, text: bool = True) -> Iterator[Cid]:
    """Walk ``block`` as one dag-cbor item, yielding its links; raises Malformed, Truncated or LimitExceeded.

    ``text``: whether strings must be UTF-8.
    """
    position, end = 0, len(block)
    # Containers still open: [items left, last key or None outside of maps, a key is due]
    stack: list[list[Any]] = []
    while True:
        start = position
        major, value, position = _head(block, position, end)
        due_key = bool(stack) and stack[-1][2]
        if due_key and major != _TEXT:
            raise Malformed("map key is not text", offset=start)
        opened = 0
        if major in (_BYTES, _TEXT):
            if value > end - position:
                raise Truncated("data ends inside a string", offset=start)
            if major == _TEXT:
                _check_text(block, position, position + value, text)
                if due_key:
                    _check_order(stack[-1], bytes(block[position : position + value]), start)
            position += value
        elif major in (_ARRAY, _MAP):
            opened = value * (2 if major == _MAP else 1)
            if opened > end - position:
                raise Truncated("data ends inside a list or map", offset=start)
        elif major == _TAG:
            cid, position = _link_at(block, value, position, end, start)
            yield cid
        if opened:
            if len(stack) >= MAX_NODE_DEPTH:
                raise LimitExceeded("dag-cbor depth", len(stack) + 1, MAX_NODE_DEPTH, offset=start)
            stack.append([opened, None, major == _MAP, major == _MAP])
            continue
        while stack:
            top = stack[-1]
            top[0] -= 1
            if top[0]:
                top[2] = top[3] and not top[2]
                break
            stack.pop()
        if not stack:
            break
    if position != end:
        raise Malformed(f"{end - position} bytes follow the value", offset=position)


def _head(block: Buffer, position: int, end: int) -> tuple[int, int, int]:
    """Major type, argument, and the position after one initial byte with its argument."""
    if position >= end:
        raise Truncated("data ends where a value is due", offset=position)
    initial = block[position]
    major, info = initial >> 5, initial & 0x1F
    if major == _SIMPLE:
        return _simple(block, info, position, end)
    if info < 24:
        return major, info, position + 1
    if info > 27:
        raise Malformed("indefinite or reserved length", offset=position)
    after = position + 1 + (1 << (info - 24))
    if after > end:
        raise Truncated("data ends inside a length", offset=position)
    value = int.from_bytes(block[position + 1 : after], "big")
    if value < (24, 1 << 8, 1 << 16, 1 << 32)[info - 24]:
        raise Malformed("integer is not in its shortest form", offset=position)
    return major, value, after


def _simple(block: Buffer, info: int, position: int, end: int) -> tuple[int, int, int]:
    if info in _SIMPLE_VALUES:
        return _SIMPLE, info, position + 1
    if info != _FLOAT64:
        raise Malformed("simple value or short float that dag-cbor forbids", offset=position)
    if end - position < 9:
        raise Truncated("data ends inside a float", offset=position)
    if not math.isfinite(struct.unpack(">d", block[position + 1 : position + 9])[0]):
        raise Malformed("float is not finite", offset=position)
    return _SIMPLE, info, position + 9


def _check_text(block: Buffer, start: int, stop: int, strict: bool) -> None:
    if strict:
        try:
            str(block[start:stop], "utf-8")
        except UnicodeDecodeError:
            raise Malformed("text is not UTF-8", offset=start) from None


def _check_order(container: list[Any], key: bytes, position: int) -> None:
    last = container[1]
    if last is not None and (len(last), last) >= (len(key), key):
        what = "twice in a map" if last == key else "out of order in a map"
        raise Malformed(f"key {key[:60]!r} stands {what}", offset=position)
    container[1] = key


def _link_at(block: Buffer, tag: int, position: int, end: int, start: int) -> tuple[Cid, int]:
    if tag != LINK_TAG:
        raise Malformed(f"tag {tag} is not supported", offset=start)
    major, length, position = _head(block, position, end)
    if major != _BYTES or length > end - position:
        raise Malformed("link is not a byte string", offset=start)
    return _link_cid(block[position : position + length], start), position + length


def _link_cid(content: Buffer, offset: int | None) -> Cid:
    if content[:1] != b"\0":
        raise Malformed("link does not begin with the identity multibase", offset=offset)
    try:
        if read_cid(content, 1, len(content)) != len(content):
            raise Malformed("bytes follow the CID")
    except CarError as error:
        raise Malformed(f"link is not a CID: {error.message}", offset=offset) from None
    return Cid(bytes(content[1:]))


def _link(tag: cbor2.CBORTag, _immutable: bool) -> Cid:
    # cbor2 6: (tag, immutable); 5 had (decoder, tag).  The lock file pins 6.
    return _link_cid(tag.value, None)


def _encode(value: Any, depth: int) -> Iterator[bytes]:
    if depth > MAX_NODE_DEPTH:
        raise ValueError(f"deeper than {MAX_NODE_DEPTH}")
    match value:
        case None | bool():
            yield {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
        case int():
            yield _encode_head(_UINT, value) if value >= 0 else _encode_head(_NINT, -1 - value)
        case float():
            if not math.isfinite(value):
                raise ValueError("dag-cbor holds finite floats only")
            yield b"\xfb" + struct.pack(">d", value)
        case str():
            data = value.encode("utf-8", "surrogateescape")
            yield _encode_head(_TEXT, len(data)) + data
        case bytes() | bytearray() | memoryview():
            yield _encode_head(_BYTES, len(value)) + bytes(value)
        case Cid():
            yield _encode_head(_TAG, LINK_TAG) + _encode_head(_BYTES, len(value.raw) + 1) + b"\0" + value.raw
        case list() | tuple():
            yield _encode_head(_ARRAY, len(value))
            for item in value:
                yield from _encode(item, depth + 1)
        case dict():
            keys = {key.encode("utf-8", "surrogateescape"): key for key in value}
            yield _encode_head(_MAP, len(value))
            for data in sorted(keys, key=lambda key: (len(key), key)):
                yield _encode_head(_TEXT, len(data)) + data
                yield from _encode(value[keys[data]], depth + 1)
        case _:
            raise TypeError(f"dag-cbor cannot hold {type(value).__name__}")


def _encode_head(major: int, value: int) -> bytes:
    if value < 24:
        return bytes([major << 5 | value])
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if value < 1 << 8 * size:
            return bytes([major << 5 | info]) + value.to_bytes(size, "big")
    raise ValueError(f"integer out of dag-cbor's range: {value}")
