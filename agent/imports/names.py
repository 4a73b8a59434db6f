"""Names and numbers of imports. Pure."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

from agent.dagstore.failures import ErrorClass, ShardError
from carlib.names import MAX_NAME_BYTES

UNNAMED = "import"  # what has no path, or none with a name


def check_name(name: str) -> None:
    """Raises ShardError(invalid) for what cannot be a file name, which is how the mount shows it."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ShardError(ErrorClass.INVALID, "the name of an import must be Unicode text") from None
    if not 0 < size <= MAX_NAME_BYTES:
        raise ShardError(
            ErrorClass.INVALID, f"the name of an import has 1 to {MAX_NAME_BYTES} bytes, not {size}"
        )
    if name in (".", "..") or "/" in name or "\0" in name:
        raise ShardError(ErrorClass.INVALID, f"{name!r} cannot be the name of an import")


def name_for(path: Path | None, is_taken: Callable[[str], bool]) -> str:
    """The last component of the path, with -2, -3, … behind it where that is taken."""
    name = os.fsencode(path.name if path is not None else "").decode(errors="backslashreplace") or UNNAMED
    if not is_taken(name):
        return name
    return next(longer for number in itertools.count(2) if not is_taken(longer := _cut(name, f"-{number}")))


def next_id(now_ns: int, last: int) -> int:
    """The number of a new import, as Lotus makes it: of the clock, and always above all before."""
    return max(now_ns, last + 1)


def _cut(name: str, ending: str) -> str:
    """Both together, and no more than a file name may have."""
    room = MAX_NAME_BYTES - len(ending.encode())
    return name.encode()[:room].decode(errors="ignore") + ending
