"""A CAR as text that people read and edit, and back: go-car's ``car debug`` and ``car compile``.

A patch is a line ``car compile [--v2 ]NAME``, a line ``root CID`` for each root, and for each block

    --- CID
    +++ MODE [(no-end-cr) ]CID
    @@ -0,LINES +0,LINES @@
    TEXT

MODE is ``dag-json`` for the block's value, ``raw`` for a value of bytes that can be printed.  What neither can hold
exactly (text that is not UTF-8, an encoding that is not canonical) is the block itself, as ``text`` or ``base64``:
modes that go-car does not know, it changes such blocks without a word.  Edited blocks get new CIDs, and so does all
that links to them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from carlib import dagcbor, dagjson, dagpb, multihash, varint
from carlib.cid import CBOR, DAG_CBOR, DAG_JSON, DAG_PB, JSON, Cid
from carlib.errors import CarError, LimitExceeded, Malformed
from carlib.limits import MAX_BLOCK_BYTES, MIB

MAX_PATCH_BYTES: Final = 1024 * MIB
"""All of a patch is held while its blocks are put together: links may point either way."""
MAX_LINE_BYTES: Final = 6 * MAX_BLOCK_BYTES
"""One line of it: JSON may take six characters for a byte."""
_UNPRINTABLE: Final = re.compile(rb"[\x00-\x08\x10-\x14\x16-\x19\x1c-\x1f]|(?:\A|\n)--- |\r\Z")
"""go-car's list, and what would read as the next block or as the end of a line."""
_LINE_BYTES: Final = 4096
_MODE_LINE: Final = re.compile(rb"\+\+\+ ([\w-]+) (\S+ )?(\w+)\r?\n?")
_NO_END: Final = b"(no-end-cr) "


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch as it was read: ``blocks`` are the CIDs that stand there, each with its mode and text, in order."""

    name: str
    version: int
    roots: tuple[Cid, ...]
    blocks: tuple[tuple[Cid, str, bytes], ...]


def heading(name: str, version: int, roots: Sequence[Cid]) -> bytes:
    """What a patch begins with; ``name`` is the CAR's."""
    lines = [f"car compile {'--v2 ' if version == 2 else ''}{name}", *(f"root {root}" for root in roots)]
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def render(cid: Cid, block: bytes) -> bytes:
    """The part of a patch that stands for one block."""
    mode, text = _text(cid, block)
    ending = "" if text.endswith(b"\n") else "(no-end-cr) "
    lines = text.count(b"\n")
    head = f"--- {cid}\n+++ {mode} {ending}{cid}\n@@ -0,{lines} +0,{lines} @@\n"
    return head.encode() + text + b"\n"


def read(stream: BinaryIO) -> Patch:
    """The patch in ``stream``; raises Malformed, LimitExceeded, OSError."""
    lines = _Lines(stream)
    first = lines.next(_LINE_BYTES).decode("utf-8", "surrogateescape").strip()
    if not first.startswith("car compile "):
        raise Malformed("a patch begins with 'car compile'", offset=0)
    name = first.removeprefix("car compile ")
    version = 2 if name.startswith("--v2 ") else 1
    roots = []
    while (line := lines.peek()) and not line.startswith(b"--- "):
        if line.startswith(b"root "):
            roots.append(_cid(line[5:].strip()))
        lines.next(_LINE_BYTES)
    return Patch(name.removeprefix("--v2 ").strip(), version, tuple(roots), tuple(_blocks(lines)))


def compiled(patch: Patch) -> tuple[tuple[Cid, ...], list[tuple[Cid, bytes]]]:
    """The roots and blocks that ``patch`` stands for, in its order, with the CIDs that they have now.

    Raises Malformed for text that is not of its mode, and for blocks that link to each other in a circle; UnknownHash.
    """
    values = {cid: _value(cid, mode, text) for cid, mode, text in patch.blocks}
    final: dict[Cid, Cid] = {}
    made: dict[Cid, bytes] = {}
    for cid in _children_first({cid: _links(value) for cid, value in values.items()}):
        block = _encoded(cid, _relinked(values.pop(cid), final))
        final[cid] = _renamed(cid, block)
        made[cid] = block
    order = dict.fromkeys(cid for cid, _, _ in patch.blocks)
    return tuple(final.get(root, root) for root in patch.roots), [(final[cid], made[cid]) for cid in order]


class _Lines:
    """Lines of a stream, one looked at ahead; ``offset`` counts bytes."""

    def __init__(self, stream: BinaryIO) -> None:
        self.offset = 0
        self._stream = stream
        self._ahead = stream.readline(MAX_LINE_BYTES)

    def peek(self) -> bytes:
        return self._ahead

    def next(self, maximum: int = MAX_LINE_BYTES - 1) -> bytes:
        line, self._ahead = self._ahead, self._stream.readline(MAX_LINE_BYTES)
        if len(line) > maximum:
            raise LimitExceeded("length of a line", len(line), maximum, offset=self.offset)
        self.offset += len(line)
        if self.offset > MAX_PATCH_BYTES:
            raise LimitExceeded("size of a patch", self.offset, MAX_PATCH_BYTES)
        return line


def _blocks(lines: _Lines) -> Iterator[tuple[Cid, str, bytes]]:
    while lines.peek():
        at = lines.offset
        name = lines.next(_LINE_BYTES).removeprefix(b"--- ").strip()
        mode = _MODE_LINE.fullmatch(lines.next(_LINE_BYTES))
        if mode is None or mode[3] != name:
            raise Malformed("no line '+++ MODE CID' with the same CID follows '--- CID'", offset=at)
        if not lines.next(_LINE_BYTES).startswith(b"@@"):
            raise Malformed("a line '@@ … @@' is missing", offset=at)
        parts = []
        while (line := lines.peek()) and not line.startswith(b"--- "):
            parts.append(lines.next())
        text = _without_end(b"".join(parts))
        yield _cid(name), mode[1].decode(), _without_end(text) if mode[2] == _NO_END else text


def _without_end(text: bytes) -> bytes:
    return text[: -2 if text.endswith(b"\r\n") else -1] if text.endswith(b"\n") else text


def _cid(text: bytes) -> Cid:
    return Cid.parse(text.decode("utf-8", "replace"))


def _text(cid: Cid, block: bytes) -> tuple[str, bytes]:
    """Mode and text of a block, such that the block can be had back from them."""
    try:
        value = decoded(cid, block)
        mode = "raw" if isinstance(value, bytes) and _is_printable(value) else "dag-json"
        text = value if mode == "raw" else dagjson.encode(value, tabs=True)
        if _encoded(cid, _value(cid, mode, text)) == block:
            return mode, text
    except (CarError, TypeError, ValueError):
        pass
    return ("text", block) if _is_printable(block) else ("base64", base64.encodebytes(block))


def _is_printable(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return _UNPRINTABLE.search(value) is None


def decoded(cid: Cid, block: bytes) -> Any:
    """The value of a block in the IPLD data model; of a codec that has none, its bytes.  Raises CarError."""
    match cid.codec:
        case c if c in (DAG_CBOR, CBOR):
            return dagcbor.decode(block)
        case c if c in (DAG_JSON, JSON):
            return dagjson.decode(block)
        case c if c == DAG_PB:
            return _plain_node(dagpb.decode(block))
    return block


def _encoded(cid: Cid, value: Any) -> bytes:
    """The block of ``cid``'s codec that holds ``value``; bytes that were given as such are the block."""
    if isinstance(value, _Verbatim):
        return value.block
    try:
        match cid.codec:
            case c if c in (DAG_CBOR, CBOR):
                return dagcbor.encode(value)
            case c if c in (DAG_JSON, JSON):
                return dagjson.encode(value)
            case c if c == DAG_PB:
                return dagpb.encode(_node(value))
    except (TypeError, ValueError) as error:
        raise Malformed(f"{cid}: {error}") from None
    if not isinstance(value, bytes):
        raise Malformed(f"{cid}: a block of this codec is bytes alone")
    return value


@dataclass(frozen=True, slots=True)
class _Verbatim:
    """A block that is taken as it is."""

    block: bytes


def _value(cid: Cid, mode: str, text: bytes) -> Any:
    if mode == "dag-json":
        try:
            return dagjson.decode(text)
        except CarError as error:
            raise Malformed(f"{cid}: {error.message}") from None
    if mode == "raw":
        return text
    if mode == "text":
        return _Verbatim(text)
    if mode != "base64":
        raise Malformed(f"{cid}: unknown encoding: {mode}")
    try:
        return _Verbatim(base64.b64decode(text))
    except ValueError as error:
        raise Malformed(f"{cid}: not base64: {error}") from None


def _plain_node(node: dagpb.PBNode) -> dict[str, Any]:
    links = []
    for link in node.links:
        plain: dict[str, Any] = {"Hash": link.cid}
        if link.named:
            plain["Name"] = link.name.decode()
        if link.sized:
            plain["Tsize"] = link.tsize
        links.append(plain)
    return {"Links": links} if node.data is None else {"Data": node.data, "Links": links}


def _node(value: Any) -> dagpb.PBNode:
    match value:
        case {"Links": list(links)} if value.keys() <= {"Data", "Links"}:
            data = value.get("Data")
            if data is None or isinstance(data, bytes):
                return dagpb.PBNode(tuple(map(_link, links)), data)
    raise ValueError("a dag-pb node is a map of Links and perhaps Data")


def _link(value: Any) -> dagpb.PBLink:
    match value:
        case {"Hash": Cid() as cid} if value.keys() <= {"Hash", "Name", "Tsize"}:
            name, tsize = value.get("Name"), value.get("Tsize")
            if isinstance(name, str | None) and isinstance(tsize, int | None):
                encoded = b"" if name is None else name.encode()
                return dagpb.PBLink(cid, encoded, tsize or 0, name is not None, tsize is not None)
    raise ValueError("a link of dag-pb is a map of Hash, and perhaps Name and Tsize")


def _links(value: Any) -> Iterator[Cid]:
    match value:
        case Cid():
            yield value
        case dict():
            for item in value.values():
                yield from _links(item)
        case list():
            for item in value:
                yield from _links(item)


def _relinked(value: Any, final: dict[Cid, Cid]) -> Any:
    match value:
        case Cid():
            return final.get(value, value)
        case dict():
            return {key: _relinked(item, final) for key, item in value.items()}
        case list():
            return [_relinked(item, final) for item in value]
    return value


def _children_first(links: dict[Cid, Iterator[Cid]]) -> Iterator[Cid]:
    """The keys, each after those that it links to."""
    done: set[Cid] = set()
    for start in links:
        stack = [] if start in done else [start]
        open_: set[Cid] = set(stack)
        while stack:
            child = next((cid for cid in links[stack[-1]] if cid in links and cid not in done), None)
            if child is None:
                done.add(stack[-1])
                open_.discard(stack[-1])
                yield stack.pop()
            elif child in open_:
                raise Malformed(f"{child} links to itself by way of {stack[-1]}")
            else:
                stack.append(child)
                open_.add(child)


def _renamed(cid: Cid, block: bytes) -> Cid:
    """The CID of ``block`` of the same version, codec, hash function and digest length as ``cid``."""
    if len(block) > MAX_BLOCK_BYTES:
        raise LimitExceeded("block length", len(block), MAX_BLOCK_BYTES)
    digest = multihash.digest(cid.hash_code, block)
    if not cid.is_identity:
        digest = digest[: len(cid.digest)]
    hashed = varint.encode(cid.hash_code) + varint.encode(len(digest)) + digest
    return Cid(hashed) if cid.version == 0 else Cid.v1(cid.codec, hashed)
