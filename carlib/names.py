"""The one place where names from a CAR become names in a file system: the mount and ``extract`` both come here.

A directory in a CAR may hold any bytes as a name.  :func:`shown` makes a file name of them, a different one for each:

1. A valid file name (not empty, not ``.`` or ``..``, no ``/``, no NUL, at most 255 bytes) is shown as it is, unless it
   looks like the result of a rule below.
2. ``/`` is shown as ``%2F`` and NUL as ``%00``; ``.`` as ``%2E``, ``..`` as ``%2E%2E``; the empty name as ``%`` alone.
3. A ``%`` that would then read as one of ours, so one before ``00``, ``25``, ``2E``, ``2F`` or ``7E``, or one that is
   the whole name, is shown as ``%25``.  Others stay: ``100%`` and ``a%20b`` are shown as they are.
4. What is longer than 255 bytes then is cut, at a character of UTF-8 and not inside of an escape, and ends with ``~``
   and the SHA-256 of the stored name in hex, 255 bytes in all or a little less.
5. A name that ends with ``~`` and 64 digits of lower-case hex by itself has that ``~`` shown as ``%7E``.

Nothing else is changed: names that are not UTF-8, control characters and line ends are a file system's daily business.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

MAX_NAME_BYTES: Final = 255
"""What Linux file systems take."""

_EMPTY: Final = b"%"
_PLAIN: Final = re.compile(rb"(?:[^/\0%~.]|\.(?!\.?\Z))[^/\0%~]{0,254}", re.DOTALL)
_TO_ESCAPE: Final = re.compile(rb"[/\0]|%(?=00|25|2E|2F|7E)")
_ESCAPE: Final = re.compile(rb"%(?:00|25|2E|2F|7E)")
_HASHED: Final = re.compile(rb"~([0-9a-f]{64})\Z")
_HASHED_BYTES: Final = 65


def shown(name: bytes) -> bytes:
    """The file name that stands for ``name``: valid, and another one for every other name (up to SHA-256)."""
    if _PLAIN.fullmatch(name):
        return name
    if not name:
        return _EMPTY
    if not name.strip(b".") and len(name) <= 2:
        return b"%2E" * len(name)
    if name == _EMPTY:
        return b"%25"
    escaped = _TO_ESCAPE.sub(lambda match: b"%%%02X" % match[0][0], name)
    if _HASHED.search(escaped):
        escaped = escaped[:-_HASHED_BYTES] + b"%7E" + escaped[-_HASHED_BYTES + 1 :]
    if len(escaped) <= MAX_NAME_BYTES:
        return escaped
    return _cut(escaped, MAX_NAME_BYTES - _HASHED_BYTES) + b"~" + hashlib.sha256(name).hexdigest().encode()


def unshown(file_name: bytes) -> bytes | None:
    """The name that is shown as ``file_name``; None where it was cut (compare listings then) or none is shown so."""
    if file_name == _EMPTY:
        return b""
    name = _ESCAPE.sub(lambda match: bytes((int(match[0][1:], 16),)), file_name)
    return name if shown(name) == file_name else None


def _cut(escaped: bytes, size: int) -> bytes:
    """``size`` bytes of ``escaped`` or up to three less, so that no UTF-8 character and no escape is torn."""
    for cut in range(size, size - 4, -1):
        tears_escape = any(_ESCAPE.match(escaped, cut - before) for before in (1, 2))
        if escaped[cut] & 0xC0 != 0x80 and not tears_escape:
            return escaped[:cut]
    return escaped[:size]  # not UTF-8: no place is better than another
