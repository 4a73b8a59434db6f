"""What the answer of an HTTP server means for a mount: pure, from status and headers. Source: RFC 9110."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.mount import DataChanged, Fingerprint, TryLater

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MAX_SKIP_BYTES: Final = 1 << 20
"""What is read and thrown away at most to reach a range, where a server gives only all of it."""
STRONG_AFTER_S: Final = 60.0
"""A Last-Modified so much older than the answer tells versions apart: two in one second are excluded, whatever the
difference between the clocks (RFC 9110, 8.8.2.2)."""
MAX_RETRY_AFTER_S: Final = 86_400.0

_CONTENT_RANGE = re.compile(
    r"bytes (?:(?P<first>\d{1,19})-(?P<last>\d{1,19})|\*)/(?P<total>\d{1,19}|\*)", re.I | re.ASCII
)
_DIGITS = re.compile(r"\d{1,19}", re.ASCII)
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')

_CLASSES: Final = {
    400: ErrorClass.INVALID,
    401: ErrorClass.DENIED,
    403: ErrorClass.DENIED,
    404: ErrorClass.GONE,
    407: ErrorClass.DENIED,
    408: ErrorClass.BUSY,
    410: ErrorClass.GONE,
    423: ErrorClass.BUSY,
    425: ErrorClass.BUSY,
    429: ErrorClass.BUSY,
    451: ErrorClass.DENIED,
}

_OVERLOADED: Final = frozenset({408, 429, 502, 503, 504})  # said of the server, not of this object


@dataclass(frozen=True, slots=True)
class ContentRange:
    """Content-Range; `first` and `last` are -1 where nothing was given, `total` where it is not known."""

    first: int
    last: int
    total: int

    @classmethod
    def parse(cls, text: str) -> ContentRange | None:
        match = _CONTENT_RANGE.fullmatch(text)
        if match is None:
            return None
        first, last, total = (int(part) if part and part != "*" else -1 for part in match.groups())
        sensible = first <= last and (total < 0 or last < total)
        return cls(first, last, total) if sensible else None


@dataclass(frozen=True, slots=True)
class Body:
    """Which part of the body is what was asked for."""

    skip: int  # bytes before it
    take: int
    whole: bool  # nothing comes behind it, or the server is wrong


def look_result(
    status: int, headers: Mapping[str, str], name: str, now: float, code: str = ""
) -> Fingerprint:
    """What the answer to `Range: bytes=0-0` says of the data; raises ShardError. `code` is what the server called its
    error, if it did."""
    found = ContentRange.parse(headers.get("content-range", ""))
    if status == 416 and (found is None or found.total == 0):
        return fingerprint(headers, 0)  # there is no first byte
    _refuse_errors(status, headers, name, now, code)
    if status == 206:
        size = found.total if found is not None and (found.first, found.last) == (0, 0) else None
        if size is None:
            raise _lie(name, headers, "bytes 0-0")
    else:
        size = _content_length(headers)
    if size is None or size < 0:
        hint = "a shard needs a server that says it (Content-Length)"
        raise ShardError(ErrorClass.INVALID, f"{name}: its server does not say how many bytes it has; {hint}")
    return fingerprint(headers, size)


def body_of(
    status: int,
    headers: Mapping[str, str],
    name: str,
    now: float,
    offset: int,
    length: int,
    expected: Fingerprint,
    code: str = "",
) -> Body:
    """Where in the body the range is; raises DataChanged if it is not of `expected`, ShardError where it is not."""
    if status in (412, 416):
        raise DataChanged(name, f"the server says so (HTTP {status})")
    _refuse_errors(status, headers, name, now, code)
    if status == 206:
        return _partial(headers, name, offset, length, expected)
    size = _content_length(headers)
    difference = expected.differs_from(fingerprint(headers, expected.size if size is None else size))
    if difference:
        raise DataChanged(name, difference)
    if offset > MAX_SKIP_BYTES:
        message = f"{name}: its server gives no ranges, only all of it from the start"
        raise ShardError(ErrorClass.INVALID, message)
    return Body(offset, length, whole=offset + length == expected.size)


def _partial(headers: Mapping[str, str], name: str, offset: int, length: int, expected: Fingerprint) -> Body:
    asked = f"bytes {offset}-{offset + length - 1}"
    found = ContentRange.parse(headers.get("content-range", ""))
    if found is None:
        raise _lie(name, headers, asked)
    difference = expected.differs_from(
        fingerprint(headers, expected.size if found.total < 0 else found.total)
    )
    if difference:
        raise DataChanged(name, difference)
    if (found.first, found.last) != (offset, offset + length - 1):
        raise _lie(name, headers, asked)
    size = _content_length(headers)
    if size not in (None, length):
        message = f"{name}: its server announces {size} bytes for {asked}"
        raise ShardError(ErrorClass.CORRUPT, message)
    return Body(0, length, whole=True)


def fingerprint(headers: Mapping[str, str], size: int) -> Fingerprint:
    """Size and strong validators: weak ones would let bytes of two versions be joined."""
    etag = headers.get("etag", "")
    if _STRONG_ETAG.fullmatch(etag):
        return Fingerprint(size, etag=etag)
    modified = headers.get("last-modified", "")
    age_s = _seconds(headers.get("date", "")) - _seconds(modified)
    return Fingerprint(size, modified=modified if age_s >= STRONG_AFTER_S else "")


def validator(expected: Fingerprint) -> str:
    """What goes into If-Range; empty if there is nothing strong."""
    return expected.etag or expected.modified


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds from now, at most a day; None if the server does not say."""
    text = headers.get("retry-after", "")
    if _DIGITS.fullmatch(text):
        return min(float(text), MAX_RETRY_AFTER_S)
    then = _seconds(text)
    return None if math.isnan(then) else min(max(then - now, 0.0), MAX_RETRY_AFTER_S)


def _refuse_errors(status: int, headers: Mapping[str, str], name: str, now: float, code: str) -> None:
    """Raises ShardError unless it is 200 or 206, as the bytes are (RFC 9110, 15)."""
    if status in (200, 206):
        encoding = headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            message = f"{name}: its server sends it encoded as {encoding!r}, where the bytes themselves were asked for"
            raise ShardError(ErrorClass.INVALID, message)
        return
    error_class = _CLASSES.get(status, ErrorClass.BUSY if status >= 500 else ErrorClass.INVALID)
    region = headers.get("x-amz-bucket-region")
    hint = f"; its bucket is in the region {region!r}" if region and region.isprintable() else ""
    message = f"{name}: the server answered HTTP {status}{f' ({code})' if code else ''}{hint}"
    after_s = retry_after_s(headers, now)
    if error_class is ErrorClass.BUSY and (status in _OVERLOADED or after_s is not None):
        raise TryLater(message, after_s=after_s)
    raise ShardError(error_class, message)


def _content_length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if _DIGITS.fullmatch(text) else None


def _lie(name: str, headers: Mapping[str, str], asked: str) -> ShardError:
    given = headers.get("content-range")
    return ShardError(
        ErrorClass.CORRUPT, f"{name}: {asked} were asked for, its server gave {given or 'it knows what'}"
    )


def _seconds(date: str) -> float:
    """An HTTP date in seconds since 1970; NaN, which compares with nothing, for what is none."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, OverflowError):
        return float("nan")
