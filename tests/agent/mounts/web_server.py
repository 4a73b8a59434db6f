"""A web server of its own process that serves a folder well, or as badly as the query of the URL says.

`python -m tests.agent.mounts.web_server FOLDER LOG [CERTIFICATE]` prints its port. Faults, joined by `&`:

| query | what it does |
|---|---|
| `norange` | answers 200 with all of it, whatever range is asked |
| `cut=N` | closes the connection after N bytes of the body |
| `lie` | says in Content-Range that it gives the bytes one behind those asked for |
| `start` | says in Content-Range what was asked for, and gives the first bytes |
| `etag=weak`, `etag=none`, `etag=flip` | a weak validator, none at all, another one each time |
| `dates` | no ETag, but Last-Modified, the file's own |
| `trickle` | one byte of the body, and then another every 20 ms |
| `pause=N` | nothing more comes after N bytes of the body |
| `slowheaders` | likewise with the head |
| `hang` | never answers |
| `status=N`, `retry=TEXT` | that status, with a Retry-After |
| `tired` | answers one request on each connection, and closes it when it has read a second |
| `first=N` | the status N once for each path, then all is well |
| `loop`, `to=URL`, `hops=N` | redirects to itself; there; N times to itself, then all is well |
| `length=N` | a Content-Length that is N too big |
| `gzip` | Content-Encoding: gzip |
| `chunked`, `nolength` | a body that does not say its size before |
| `garbage` | something that is not HTTP |
"""

from __future__ import annotations

import json
import os
import socketserver
import ssl
import sys
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PIECE = 64 << 10


class Handler(socketserver.StreamRequestHandler):
    """One connection."""

    disable_nagle_algorithm = True  # else each small answer waits 40 ms
    server: Server
    answered = 0

    def handle(self) -> None:
        try:
            while self.answer():
                pass
        except (ConnectionError, ssl.SSLError, TimeoutError):
            pass

    def answer(self) -> bool:
        """Answers one request; whether another may follow on this connection."""
        line = self.rfile.readline().decode("latin-1").split()
        if len(line) != 3:
            return False
        fields = {}
        while (field := self.rfile.readline().decode("latin-1").strip()) != "":
            name, _, value = field.partition(":")
            fields[name.lower()] = value.strip()
        parts = urlsplit(line[1])
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        note = {"path": parts.path, "query": parts.query, "fields": fields, "sent": 0}
        try:
            return self.respond(self.server.folder / unquote(parts.path).lstrip("/"), query, fields, note)
        finally:
            self.server.note(note)

    def respond(
        self, path: Path, query: dict[str, str], fields: dict[str, str], note: dict[str, Any]
    ) -> bool:
        self.answered += 1
        if "tired" in query and self.answered > 1:
            return False
        if "hang" in query:
            self.rfile.read(1)
            return False
        if "garbage" in query:
            self.wfile.write(b"SSH-2.0-OpenSSH_9\r\n")
            return False
        if "first" in query and self.server.is_first(str(path)):
            query = {"status": query["first"], **query}
        if "status" in query:
            more = [f"Retry-After: {query['retry']}"] if "retry" in query else []
            return self.head(int(query["status"]), ["Content-Length: 0", *more], query)
        hops = int(query.get("hops", 0))
        if "loop" in query or "to" in query or hops:
            itself = f"/{path.name}?loop" if "loop" in query else f"/{path.name}?hops={hops - 1}"
            return self.head(302, [f"Location: {query.get('to', itself)}", "Content-Length: 0"], query)
        if not path.is_file():
            return self.head(404, ["Content-Length: 0"], query)
        return self.file(path, query, fields, note)

    def file(self, path: Path, query: dict[str, str], fields: dict[str, str], note: dict[str, Any]) -> bool:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            headers = self.validators(found, query)
            size = found.st_size
            etag = next((line.partition(": ")[2] for line in headers if line.startswith("ETag")), None)
            modified = next((line.partition(": ")[2] for line in headers if line.startswith("Last")), None)
            condition = fields.get("if-range")
            first, last, status = 0, size - 1, 200
            if "range" in fields and "norange" not in query and condition in (None, etag, modified):
                first, last = (int(text) for text in fields["range"].removeprefix("bytes=").split("-"))
                last, status = min(last, size - 1), 206
                if first >= size:
                    return self.head(416, [f"Content-Range: bytes */{size}", "Content-Length: 0"], query)
                shift = 1 if "lie" in query else 0
                headers.append(f"Content-Range: bytes {first + shift}-{last + shift}/{size}")
            file.seek(0 if "start" in query else first)
            length = last - first + 1
            if "chunked" in query:
                headers.append("Transfer-Encoding: chunked")
            elif "nolength" not in query:
                headers.append(f"Content-Length: {length + int(query.get('length', 0))}")
            if "gzip" in query:
                headers.append("Content-Encoding: gzip")
            self.head(status, headers, query)
            cut = int(query.get("cut", length))
            pause = int(query.get("pause", 1 << 62))
            left = min(length, cut)
            while left:
                data = file.read(1 if "trickle" in query else min(PIECE, left, max(1, pause - note["sent"])))
                if "trickle" in query:
                    time.sleep(0.02)
                self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if "chunked" in query else data)
                left -= len(data)
                if note["sent"] + len(data) >= pause:
                    self.rfile.read(1)
                note["sent"] += len(data)
            if "chunked" in query:
                self.wfile.write(b"0\r\n\r\n")
        return not {"nolength", "length"} & query.keys() and cut >= length

    def head(self, status: int, headers: list[str], query: dict[str, str]) -> bool:
        text = "\r\n".join(
            [f"HTTP/1.1 {status} as told", f"Date: {formatdate(usegmt=True)}", *headers, "", ""]
        )
        if "slowheaders" in query:
            for char in text:
                self.wfile.write(char.encode())
                time.sleep(0.02)
        else:
            self.wfile.write(text.encode("latin-1"))
        return True

    def validators(self, found: os.stat_result, query: dict[str, str]) -> list[str]:
        kind = query.get("etag")
        if kind == "none":
            return []
        if "dates" in query:
            return [f"Last-Modified: {formatdate(found.st_mtime, usegmt=True)}"]
        tag = f'"{found.st_mtime_ns:x}-{found.st_ino:x}-{found.st_size:x}"'
        if kind == "flip":
            tag = f'"{self.server.next_number()}"'
        return [f"ETag: {'W/' if kind == 'weak' else ''}{tag}"]


class Server(socketserver.ThreadingTCPServer):
    """The server; threads end with the process."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path, log: Path, certificate: str | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self._log = log.open("a", buffering=1)
        self._seen: set[str] = set()
        self._number = 0
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def note(self, line: dict[str, Any]) -> None:
        self._log.write(json.dumps(line) + "\n")

    def is_first(self, what: str) -> bool:
        first = what not in self._seen
        self._seen.add(what)
        return first

    def next_number(self) -> int:
        self._number += 1
        return self._number


if __name__ == "__main__":
    server = Server(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
    print(server.server_address[1], flush=True)
    server.serve_forever()
