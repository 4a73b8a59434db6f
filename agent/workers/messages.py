"""What agent and worker say to each other: one JSON object a line over the worker's stdin and stdout.

To the worker: `{"task": KIND, "params": {…}, "io_class": …}`. Back: any number of the following, then one of
`{"result": {…}, "peak": BYTES}` and `{"error": {"class": …, "message": …}, "peak": BYTES}`.

    {"progress": [done, total]}
    {"need": [offset, length], "again": bool}   of a transient; "again": what is there is wrong
                                                answered by {"have": true} or {"lack": {"class": …, "message": …}}
    {"want": [[offset, length], …]}             will be needed soon; not answered

The standard library's json is used on purpose: it
escapes the lone surrogates that stand for the bytes of a path that is not UTF-8, and brings them back.
"""

from __future__ import annotations

import json
from typing import Any

MAX_LINE_BYTES = 16 * 1024 * 1024

Params = dict[str, Any]  # what JSON can carry; each task kind says what it takes and gives


def encode(message: Params) -> bytes:
    """One message as a line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Params:
    """One line as a message; raises ValueError."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError(f"a message is a JSON object, not {type(message).__name__}")
    return message


class LineBuffer:
    """Bytes in, whole lines out."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes | bytearray) -> list[bytes]:
        """The lines that `data` completes, without their ends; raises ValueError on one that is too long."""
        self._pending += data
        lines: list[bytes] = []
        if b"\n" in data:
            *whole, self._pending = self._pending.split(b"\n")
            lines = [bytes(line) for line in whole]
        if len(self._pending) > MAX_LINE_BYTES:
            raise ValueError(f"a line of more than {MAX_LINE_BYTES} bytes")
        return lines
