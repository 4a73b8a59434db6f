"""Where shard data comes from: the registry of mounts by URL scheme.

A new mount is one module beside this one and one line in `SCHEMES`. Only the URL is stored; it must come back from
`parse` as the same bytes, whatever is in it, because a shard whose URL does not survive a restart is lost.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.bytes import BytesMount
from agent.dagstore.mounts.file import FileMount
from agent.dagstore.mounts.http import HttpMount
from agent.dagstore.mounts.lotus import LotusMount
from agent.dagstore.mounts.mount import DataChanged, Fingerprint, Mount, Probe, TryLater
from agent.dagstore.mounts.s3 import S3Mount
from agent.dagstore.mounts.urls import shown

__all__ = [
    "SCHEMES",
    "BytesMount",
    "DataChanged",
    "FileMount",
    "Fingerprint",
    "HttpMount",
    "LotusMount",
    "Mount",
    "Probe",
    "S3Mount",
    "TryLater",
    "is_sealed",
    "parse",
    "resolve",
    "shown",
]

MAX_URL_BYTES = 32 * 1024
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


SCHEMES: dict[str, Callable[[str], Mount]] = {
    "bytes": BytesMount.parse,
    "file": FileMount.parse,
    "http": HttpMount.parse,
    "https": HttpMount.parse,
    "lotus": LotusMount.parse,
    "s3": S3Mount.parse,
}
OPAQUE = frozenset({"bytes"})  # nothing after the colon looks like a path


def parse(url: str) -> Mount:
    """The mount that a stored or given URL stands for; raises ShardError(invalid)."""
    match = _SCHEME.match(url)
    if match is None:
        raise ShardError(ErrorClass.INVALID, f"{shown(url)!r} is not a URL")
    make = SCHEMES.get(match[1].lower())
    if make is None:
        known = ", ".join(sorted(SCHEMES))
        raise ShardError(
            ErrorClass.INVALID, f"no mount for the scheme {match[1]!r} of {shown(url)!r}; there is {known}"
        )
    if len(url) > MAX_URL_BYTES:
        raise ShardError(
            ErrorClass.INVALID, f"a URL of {len(url)} bytes; at most {MAX_URL_BYTES} are allowed"
        )
    return make(url)


def is_sealed(url: str) -> bool:
    """Whether the data can be read only after hours of unsealing; a mount that has no `is_sealed` knows of no such
    thing. Raises ShardError(invalid)."""
    return bool(getattr(parse(url), "is_sealed", False))


def resolve(url_or_path: str, *, directory: Path | None = None) -> Mount:
    """Likewise for what a person writes: a URL, or a path, which is taken from `directory` if it is relative.

    `a:b` is a path unless there is a `//` after the colon, or `a` is a known scheme before a slash, or `bytes`."""
    match = _SCHEME.match(url_or_path)
    if match is not None and _is_scheme(match[1].lower(), url_or_path[match.end() :]):
        return parse(url_or_path)
    if not url_or_path:
        raise ShardError(ErrorClass.INVALID, "an empty path")
    if directory is None and not url_or_path.startswith("/"):
        raise ShardError(ErrorClass.INVALID, f"{url_or_path!r} is neither a URL nor an absolute path")
    return FileMount.at(os.fsencode((directory or Path("/")) / url_or_path))


def _is_scheme(name: str, rest: str) -> bool:
    return name in OPAQUE or rest.startswith("/" if name in SCHEMES else "//")
