"""An object in an S3-compatible store: `s3://bucket/key`, with `?endpoint=` and `&region=` where they are not the
configured ones. Read over HTTP like any other object, at a URL that is signed anew for each request."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote_to_bytes, urlsplit

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import probing
from agent.dagstore.mounts.mount import Fingerprint, Probe, check_range, nothing
from agent.dagstore.mounts.urls import LONE_PERCENT, HttpUrl, shown

if TYPE_CHECKING:
    from agent.dagstore.access import Access
    from agent.dagstore.mounts.environment import Environment

MAX_KEY_BYTES: Final = 1024  # S3, "Naming objects"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_REGION = re.compile(r"[A-Za-z0-9-]{0,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class S3Mount:
    """The object `key` of `bucket`; the credentials are the operator's and in no URL."""

    bucket: str
    key: str
    endpoint: str = ""  # http(s)://host[:port][/path]; empty: the configured one
    region: str = ""  # likewise

    @classmethod
    def parse(cls, url: str) -> S3Mount:
        """From any spelling; raises ShardError(invalid)."""
        if not url.isprintable():
            raise _invalid(url, "has characters that no URL has")
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise _invalid(url, f"is not a URL: {error}") from error
        if "@" in parts.netloc:
            hint = "credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
            raise _invalid(url, f"has a user in it; {hint}")
        if _BUCKET.fullmatch(parts.netloc) is None:
            raise _invalid(url, "names no bucket; write s3://bucket/key")
        endpoint, region = _options(url, parts)
        return cls(parts.netloc, _key(url, parts), endpoint, region)

    @property
    def url(self) -> str:
        options = {"endpoint": self.endpoint, "region": self.region}
        query = "&".join(f"{name}={quote(value, safe=':/')}" for name, value in options.items() if value)
        return f"s3://{self.bucket}/{quote(self.key, safe='/~')}" + (f"?{query}" if query else "")

    @property
    def path(self) -> Path | None:
        return None

    @property
    def origin(self) -> str:
        return f"s3://{self.endpoint.partition('://')[2]}/{self.bucket}"

    def access(self, environment: Environment | None = None) -> Access | None:
        return None

    async def look(self, environment: Environment) -> Fingerprint:
        url = await environment.signer().signed(self)
        return await environment.web().look(url, str(self))

    async def probe(self, environment: Environment) -> Probe:
        return await probing.probe(self, environment)

    @asynccontextmanager
    async def stream(
        self, environment: Environment, offset: int, length: int, expected: Fingerprint
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        check_range(self, offset, length, expected.size)
        if not length:  # HTTP has no way to ask for it
            yield nothing()
            return
        url, web = await environment.signer().signed(self), environment.web()
        async with web.stream(url, str(self), offset, length, expected, "If-Match") as pieces:
            yield pieces

    def __str__(self) -> str:
        return self.url


def _options(url: str, parts: SplitResult) -> tuple[str, str]:
    try:
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError as error:
        raise _invalid(url, "has a query that is not ?name=value&…") from error
    if parts.fragment or not options.keys() <= {"endpoint", "region"}:
        raise _invalid(
            url, "has more than endpoint= and region= behind the key; a ? or # in a key is %3F or %23"
        )
    region, endpoint = options.get("region", ""), options.get("endpoint", "")
    if _REGION.fullmatch(region) is None:
        raise _invalid(url, f"has the region {region!r}, which is none")
    if not endpoint:
        return "", region
    found = HttpUrl.parse(endpoint)
    if found.user or "?" in found.target:
        raise _invalid(url, "has an endpoint with more than http(s)://host:port/path")
    return found.text.rstrip("/"), region


def _key(url: str, parts: SplitResult) -> str:
    try:
        key = unquote_to_bytes(LONE_PERCENT.sub("%25", parts.path[1:])).decode()
    except UnicodeError as error:
        raise _invalid(url, "has a key that is not UTF-8") from error
    if not 0 < len(key.encode()) <= MAX_KEY_BYTES:
        raise _invalid(url, f"has a key of {len(key.encode())} bytes, not 1 to {MAX_KEY_BYTES}")
    if not {"", ".", ".."}.isdisjoint(key.split("/")) or _CONTROL.search(key):
        raise _invalid(
            url, "has a key with //, . or .. or a control character in it, which HTTP does not carry"
        )
    return key


def _invalid(url: str, why: str) -> ShardError:
    return ShardError(ErrorClass.INVALID, f"{shown(url)!r} {why}")
