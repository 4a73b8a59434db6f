"""dag-pb, the codec of UnixFS: nodes of named links and one byte string.

Source: IPLD, DAG-PB specification.  A node is ``Links (2)*, Data (1)?``, a link is ``Hash (1), Name (2)?, Tsize (3)?``,
in that order; unknown fields and other wire types are errors.  Blocks come from a blockstore and are verified already;
UnixFS, traversal and the command line call this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from carlib.cid import Cid, read_cid
from carlib.errors import CarError, LimitExceeded, Malformed, Truncated
from carlib.limits import MAX_BLOCK_BYTES, MAX_LINKS
from carlib.protobuf import encode_bytes, encode_uint, encode_varint, repeats, varint
from carlib.varint import Buffer

_DATA: Final = 0x0A  # field 1 of a node, bytes
_LINKS: Final = 0x12  # field 2 of a node, bytes
_HASH: Final = 0x0A  # fields 1 to 3 of a link
_NAME: Final = 0x12
_TSIZE: Final = 0x18

_USUAL_CIDS: Final = frozenset(
    bytes.fromhex(prefix) for prefix in ("1220", "01551220", "01701220", "0155a0e40220", "0170a0e40220")
)
"""What stands before a 32-byte digest in CIDs that need no parsing: v0, raw and dag-pb by sha2-256 and blake2b-256."""


class PBLink(NamedTuple):
    """One link; a named tuple because a frozen dataclass takes three times as long to make, and nodes have thousands.

    ``named`` and ``sized`` are False where the field itself is absent, so that every node can be written back exactly.
    """

    cid: Cid
    name: bytes = b""
    tsize: int = 0
    named: bool = True
    sized: bool = True


@dataclass(frozen=True, slots=True)
class PBNode:
    """A node; ``data`` None where the field is absent."""

    links: tuple[PBLink, ...] = ()
    data: bytes | None = None


class Columns(NamedTuple):
    """A node as parallel lists, for readers that want few of its links as objects; None where a field is absent."""

    cids: list[bytes]
    names: list[bytes | None]
    tsizes: list[int | None]
    data: memoryview | None


def decode(block: Buffer, *, strict: bool = True) -> PBNode:
    """The node in ``block``.  Raises Malformed, Truncated or LimitExceeded; offsets are positions in the block.

    Not strict: Data may stand before Links, as old writers put it.
    """
    cids, names, tsizes, data = columns(block, strict=strict)
    links = tuple(
        PBLink(Cid(cid), name or b"", tsize or 0, name is not None, tsize is not None)
        for cid, name, tsize in zip(cids, names, tsizes, strict=True)
    )
    return PBNode(links, None if data is None else bytes(data))


def links(block: Buffer) -> Iterator[Cid]:
    """The CIDs that ``block`` links to, in its order; for traversal.  The whole node is checked first."""
    return map(Cid, columns(block).cids)


def data_of(block: Buffer, *, strict: bool = True) -> memoryview | None:
    """The Data field of ``block`` without a copy; its links are hopped over, not looked into."""
    view, end, position, data = memoryview(block), len(block), 0, None
    while position < end:
        tag, start = view[position], position
        size, position = varint(view, position + 1, end)
        if size > end - position:
            raise Truncated("data ends inside a field of a node", offset=start)
        if tag == _DATA:
            if data is not None:
                raise Malformed("a second Data field", offset=start)
            data = view[position : position + size]
        elif tag != _LINKS:
            raise Malformed(f"unknown field or wire type in a node: tag 0x{tag:02x}", offset=start)
        elif data is not None and strict:
            raise Malformed("a link after the Data field", offset=start)
        position += size
    return data


def columns(block: Buffer, *, strict: bool = True) -> Columns:
    """As :func:`decode`, without an object for every link."""
    if len(block) > MAX_BLOCK_BYTES:
        raise LimitExceeded("block size", len(block), MAX_BLOCK_BYTES)
    buffer = block if type(block) is bytes else bytes(block)
    cids: list[bytes] = []
    names: list[bytes | None] = []
    tsizes: list[int | None] = []
    data: memoryview | None = None
    end, position = len(buffer), 0
    try:
        while position < end:
            if buffer[position] == _LINKS:
                if data is not None and strict:
                    raise Malformed("a link after the Data field", offset=position)
                position = _read_links(buffer, position, end, cids, names, tsizes)
                continue
            if buffer[position] != _DATA:
                raise Malformed(
                    f"unknown field or wire type in a node: tag 0x{buffer[position]:02x}", offset=position
                )
            if data is not None:
                raise Malformed("a second Data field", offset=position)
            size, start = varint(buffer, position + 1, end)
            if size > end - start:
                raise Truncated("data ends inside the Data field", offset=position)
            data = memoryview(buffer)[start : start + size]
            position = start + size
    except IndexError:
        raise Truncated("data ends inside a link", offset=position) from None
    return Columns(cids, names, tsizes, data)


def _read_links(
    buffer: bytes,
    position: int,
    end: int,
    cids: list[bytes],
    names: list[bytes | None],
    tsizes: list[int | None],
) -> int:
    """Append the links that follow one another from ``position`` on; the position after the last.

    The hot loop of every directory: one-byte varints are read in place, 1.7 µs a link.  An index past the buffer is an
    IndexError and means Truncated; one past the link is seen when its fields do not end where it does.
    """
    while position < end and buffer[position] == _LINKS:
        if len(cids) == MAX_LINKS:
            raise LimitExceeded("number of links", MAX_LINKS + 1, MAX_LINKS, offset=position)
        start = position
        size = buffer[position + 1]
        position += 2
        if size > 0x7F:
            size, position = varint(buffer, start + 1, end)
        stop = position + size
        if stop > end:
            raise Truncated("data ends inside a link", offset=start)

        if not size or buffer[position] != _HASH:
            raise Malformed("a link does not begin with its Hash", offset=start)
        size = buffer[position + 1]
        position += 2
        if size > 0x7F:
            size, position = varint(buffer, position - 1, stop)
        after = position + size
        if after > stop:
            raise Truncated("a link ends inside its Hash", offset=start)
        cid = buffer[position:after]
        usual = cid[:-32] in _USUAL_CIDS
        if not usual:
            _check_cid(cid, start)
        position = cid_end = after

        name = tsize = None
        if position < stop and buffer[position] == _NAME:
            size = buffer[position + 1]
            position += 2
            if size > 0x7F:
                size, position = varint(buffer, position - 1, stop)
            after = position + size
            if after > stop:
                raise Truncated("a link ends inside its Name", offset=start)
            name = buffer[position:after]
            position = after

        if position < stop and buffer[position] == _TSIZE:
            tsize = buffer[position + 1]
            position += 2
            if tsize > 0x7F:
                tsize, position = varint(buffer, position - 1, stop)

        if position != stop:
            raise Malformed("a link holds an unknown, repeated or misplaced field", offset=start)
        cids.append(cid)
        names.append(name)
        tsizes.append(tsize)
        size = stop - start
        if (
            usual
            and not name
            and buffer[start : cid_end - 32] == buffer[stop : cid_end - 32 + size]
            and buffer[cid_end:stop] == buffer[cid_end + size : stop + size]
        ):
            position = _read_alike(buffer, start, stop, cid_end, end, cids)
            more = (position - stop) // size
            names += [name] * more
            tsizes += [tsize] * more
    return position


def _read_alike(buffer: bytes, start: int, stop: int, cid_end: int, end: int, cids: list[bytes]) -> int:
    """Append the CIDs of the links that differ from the one before ``stop`` in nothing but their digests.

    Links to the full chunks of a file do; the position after the last is given.
    """
    size, first = stop - start, len(cids[-1])
    digest = range(cid_end - 32 - start, cid_end - start)
    count = min(repeats(buffer, start, size, end, digest), MAX_LINKS - len(cids) + 1)
    ends = range(cid_end + size, cid_end + count * size, size)
    cids += [buffer[position - first : position] for position in ends]
    return start + count * size


def _check_cid(cid: bytes, offset: int) -> None:
    try:
        if read_cid(cid, 0, len(cid)) != len(cid):
            raise Malformed("bytes follow it")
    except LimitExceeded:
        raise
    except CarError as error:
        raise Malformed(f"a link's Hash is not a CID: {error.message}", offset=offset) from None


def encode(node: PBNode) -> bytes:
    """The bytes of ``node``, its links in the order given; what go writes where every link is named and sized."""
    return encode_parts(
        (
            encode_bytes(_HASH, link.cid.raw)
            + (encode_bytes(_NAME, link.name) if link.named else b"")
            + (encode_uint(_TSIZE, link.tsize) if link.sized else b"")
            for link in node.links
        ),
        node.data,
    )


def encode_link(cid: bytes, name: bytes, tsize: int) -> bytes:
    """The body of one link with all its fields, for :func:`encode_parts`."""
    return b"".join(
        (
            b"\x0a",
            encode_varint(len(cid)),
            cid,
            b"\x12",
            encode_varint(len(name)),
            name,
            b"\x18",
            encode_varint(tsize),
        )
    )


def link_size(cid_bytes: int, name_bytes: int, tsize: int) -> int:
    """Bytes that a link with all its fields takes in a node, its own tag and length included."""
    body = (
        3 + _varint_size(cid_bytes) + cid_bytes + _varint_size(name_bytes) + name_bytes + _varint_size(tsize)
    )
    return 1 + _varint_size(body) + body


def _varint_size(value: int) -> int:
    return max(1, (value.bit_length() + 6) // 7)


def encode_parts(links: Iterable[bytes], data: Buffer | None) -> bytes:
    """A node from the bodies of its links and its Data."""
    parts: list[Buffer] = []
    for link in links:
        parts += (b"\x12", encode_varint(len(link)), link)
    if data is not None:
        parts += (b"\x0a", encode_varint(len(data)), data)
    return b"".join(parts)
