"""The heads of answers: entity tags, names, ranges, what has not changed. Values only.

Source: RFC 9110 (conditional requests, ranges); Trustless Gateway, Response Headers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final
from urllib.parse import quote, quote_from_bytes

from agent.gateway.asked import RAW_TYPE, CarAsked, RawAsked, Refused
from carlib.cid import Cid

IMMUTABLE: Final = "public, max-age=29030400, immutable"
_RANGE: Final = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)

Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes [start, stop) of `size`."""

    start: int
    stop: int
    size: int

    @property
    def length(self) -> int:
        return self.stop - self.start


def etag(asked: RawAsked | CarAsked) -> str:
    """Differs whenever the body could."""
    if isinstance(asked, RawAsked):
        return f'"{asked.cid}.raw"'
    request = asked.request
    wanted = request.entity_bytes
    parts = [b"/".join(request.path), request.scope.value.encode(), str(asked.duplicates).encode()]
    parts.append(b"" if wanted is None else f"{wanted.first}:{wanted.last}".encode())
    return f'"{request.root}.car.{hashlib.sha256(bytes(1).join(parts)).hexdigest()[:16]}"'


def has_not_changed(tag: str, if_none_match: str) -> bool:
    """Whether a client that has what these tags name has it already."""
    tags = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    return "*" in tags or tag in tags


def headers(asked: RawAsked | CarAsked, roots: Sequence[Cid]) -> Headers:
    """All but those of length and ranges. `roots`: the CID at each step of the path, that of the root first."""
    is_raw = isinstance(asked, RawAsked)
    path = () if isinstance(asked, RawAsked) else asked.request.path
    shown = "".join(f"/{quote_from_bytes(segment, safe='')}" for segment in path)
    return [
        ("content-type", RAW_TYPE if isinstance(asked, RawAsked) else asked.content_type),
        ("content-disposition", disposition(asked.filename)),
        ("etag", etag(asked)),
        ("cache-control", IMMUTABLE),
        ("x-content-type-options", "nosniff"),
        ("x-ipfs-path", f"/ipfs/{asked.text}{shown}"),
        ("x-ipfs-roots", ",".join(map(str, roots))),
        ("accept-ranges", "bytes" if is_raw else "none"),
        ("vary", "Accept"),
    ]


def disposition(filename: str) -> str:
    """`attachment`, with the name for those who know ASCII alone, and for others (RFC 6266)."""
    plain = re.sub(r"[^\x20-\x7e]|[\"\\%]", "_", filename)
    said = f'attachment; filename="{plain}"'
    return said if plain == filename else f"{said}; filename*=UTF-8''{quote(filename, safe='')}"


def part(size: int, range_header: str, *, tag: str, if_range: str, modified: str = "") -> Part | None:
    """The one range that is asked for; None for all of it: no range, several, a validator that is not ours.

    Raises Refused(416).
    """
    if not range_header or (if_range and if_range not in (tag, modified)):
        return None
    match = _RANGE.fullmatch(range_header.replace(" ", ""))
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        length = min(int(match[2]), size)
        start, stop = size - length, size
    else:
        start = int(match[1])
        stop = min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None  # not a range: it is as if it were not there
    if start >= size or start == stop:
        raise Refused(416, f"bytes {range_header.removeprefix('bytes=')} are not in {size}")
    return Part(start, stop, size)


def range_headers(found: Part | None, size: int) -> tuple[int, Headers]:
    """The status, and what says which bytes follow."""
    if found is None:
        return 200, [("content-length", str(size))]
    shown = f"bytes {found.start}-{found.stop - 1}/{found.size}"
    return 206, [("content-length", str(found.length)), ("content-range", shown)]


def http_date(mtime_ns: int) -> str:
    return formatdate(mtime_ns // 1_000_000_000, usegmt=True)
