"""A node that speaks as much of Kubo's RPC API as we ask for, over blocks in memory; and one that is Kubo itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from carlib import links
from carlib.cid import Cid
from carlib.header import V1Header
from carlib.section import Block, SectionScanner
from carlib.varint import encode


@dataclass(slots=True)
class FakeNode:
    """What it holds, and how it is to fail."""

    port: int = 0
    blocks: dict[bytes, bytes] = field(default_factory=dict)
    pinned: dict[str, bool] = field(default_factory=dict)  # CID: with all below it
    calls: list[str] = field(default_factory=list)  # command and query
    pin_error: str = ""
    plain_error: tuple[int, str] | None = None
    cuts_answers: bool = False

    @property
    def name(self) -> str:
        return f"ipfs:/ip4/127.0.0.1/tcp/{self.port}"

    def put(self, *blocks: tuple[Cid, bytes]) -> None:
        self.blocks |= {cid.raw: data for cid, data in blocks}


class _Refused(Exception):
    pass


@contextmanager
def fake_node() -> Iterator[FakeNode]:
    """One that answers on a port of loopback, for the time of the block."""
    node = FakeNode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            target = urlsplit(self.path)
            command = target.path.removeprefix("/api/v0/")
            query = parse_qs(target.query)
            body = self.rfile.read(int(self.headers["content-length"]))
            node.calls.append(f"{command}?{target.query}")
            if node.plain_error is not None:
                status, text = node.plain_error
                self._say(status, text.encode(), "text/plain")
                return
            try:
                kind = self.headers.get("content-type", "")
                self._say(200, _answer(node, command, query, body, kind), "application/json")
            except _Refused as error:
                said = {"Message": str(error), "Code": 0, "Type": "error"}
                self._say(500, json.dumps(said).encode(), "application/json")

        def _say(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    node.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield node
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(node: FakeNode, command: str, query: dict[str, list[str]], body: bytes, kind: str) -> bytes:
    match command:
        case "version":
            return b'{"Version": "0.43.0"}'
        case "block/get":
            return _block(node, Cid.parse(query["arg"][0]))
        case "dag/export":
            return _export(node, Cid.parse(query["arg"][0]))
        case "dag/import":
            return _import(node, body, kind, pins=query["pin-roots"] == ["true"])
        case "pin/add":
            for text in query["arg"]:
                if node.pinned.get(text):
                    raise _Refused(f"{text} is held by something bigger")
            node.pinned |= dict.fromkeys(query["arg"], False)
            return b"{}"
        case "pin/ls":
            if not node.pinned.get(query["arg"][0]):
                raise _Refused("not so")
            return b"{}"
    raise _Refused(f"{command}: no such command")


def _block(node: FakeNode, cid: Cid) -> bytes:
    if cid.raw not in node.blocks:
        raise _Refused("no such block, in whatever words")
    return node.blocks[cid.raw]


def _export(node: FakeNode, root: Cid) -> bytes:
    """Ends at a block that is not there, as if that were all."""
    found, seen, pending = [V1Header((root,)).encode()], set(), [root]
    _block(node, root)
    while pending:
        cid = pending.pop()
        if cid.raw in seen:
            continue
        if cid.raw not in node.blocks:
            break
        seen.add(cid.raw)
        data = node.blocks[cid.raw]
        found += [encode(len(cid.raw) + len(data)), cid.raw, data]
        pending += reversed(links.links(cid, data))
    return b"".join(found)


def _import(node: FakeNode, body: bytes, kind: str, *, pins: bool) -> bytes:
    message = BytesParser(policy=HTTP).parsebytes(f"content-type: {kind}\r\n\r\n".encode() + body)
    (part,) = message.iter_parts()
    scanner = SectionScanner()
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    scanner.feed(data)
    scanner.feed_end()
    header = scanner.next()
    assert isinstance(header, V1Header)
    count = size = 0
    while isinstance(block := scanner.next(), Block):
        node.blocks[bytes(block.cid)] = bytes(block.data)
        count, size = count + 1, size + len(block.data)
    lines: list[object] = []
    if pins:
        node.pinned |= {str(root): True for root in header.roots}
        lines = [{"Root": {"Cid": {"/": str(root)}, "PinErrorMsg": node.pin_error}} for root in header.roots]
    if not node.cuts_answers:
        lines.append({"Stats": {"BlockCount": count, "BlockBytesCount": size}})
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)
