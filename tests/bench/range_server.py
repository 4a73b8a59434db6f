"""`python -m tests.bench.range_server FOLDER`: the folder's files over HTTP, with ranges and strong ETags.

Prints its port. For measuring only: one thread a connection, no limits, no faults.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


class Server(ThreadingHTTPServer):
    """A server that says nothing of those who hang up."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as it was given


class Handler(SimpleHTTPRequestHandler):
    """GET and HEAD of files, whole or a range of them."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._send_head(self._path())

    def do_GET(self) -> None:
        path = self._path()
        first, length = self._send_head(path)
        with path.open("rb") as file, suppress(ConnectionError):  # a reader that has enough hangs up
            while length > 0:
                sent = os.sendfile(self.connection.fileno(), file.fileno(), first, length)
                first, length = first + sent, length - sent

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _path(self) -> Path:
        return Path(self.translate_path(self.path))

    def _send_head(self, path: Path) -> tuple[int, int]:
        """Sends the head of the answer; gives offset and length of what is to follow."""
        found = path.stat()
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        first, last = (
            (int(asked[1]), min(int(asked[2]), found.st_size - 1)) if asked else (0, found.st_size - 1)
        )
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{found.st_size}")
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{found.st_ino:x}-{found.st_mtime_ns:x}"')
        self.end_headers()
        self.wfile.flush()
        return first, last - first + 1


def main() -> None:
    """Serves until it is ended."""
    os.chdir(sys.argv[1])
    with Server(("0.0.0.0", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
