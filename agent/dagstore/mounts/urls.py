"""`http:` and `https:` URLs: one canonical spelling, and one without secrets for people and logs."""

from __future__ import annotations

import ipaddress
import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, quote, unquote_to_bytes, urljoin, urlsplit

from agent.dagstore.failures import ErrorClass, ShardError

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_SECRET = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^/?#]*@)?(?P<rest>[^?#]*)(?P<query>[?#].*)?", re.S
)
LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")
_PATH_SAFE = "/%:@!$&'()*+,;=~"
_QUERY_SAFE = _PATH_SAFE + "?[]"


def shown(url: str) -> str:
    """The URL as it may be printed: user, password and query, where tokens and signatures are, as `…`."""
    match = _SECRET.fullmatch(url)
    if match is None:
        return url
    user, query = ("…@" if match["user"] else ""), (f"{match['query'][0]}…" if match["query"] else "")
    return f"{match['scheme']}{user}{match['rest']}{query}"


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """A URL of the web, in parts that need no further checks."""

    scheme: str  # http or https
    host: str  # ASCII, lower case; of IPv6 without brackets
    port: int
    target: str  # path and query as they go over the wire, ASCII
    user: str = ""  # user:password, percent-encoded

    @classmethod
    def parse(cls, text: str) -> HttpUrl:
        """From any spelling; a fragment is dropped. Raises ShardError(invalid), without secrets in the message."""
        if not text.isprintable():
            raise _invalid(text, "has characters that no URL has")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise _invalid(text, f"is not a URL: {error}") from error
        scheme = parts.scheme.lower()
        if scheme not in DEFAULT_PORTS:
            raise _invalid(text, "is neither http: nor https:")
        if not parts.hostname or port == 0:
            raise _invalid(
                text, f"names no {'port' if parts.hostname else 'host'}; write {scheme}://host/path"
            )
        user = parts.netloc.rpartition("@")[0]
        return cls(
            scheme, _host(parts.hostname, text), port or DEFAULT_PORTS[scheme], _target(parts),
            _quoted(user, "%:!$&'()*+,;=~"),
        )  # fmt: skip

    @property
    def text(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"{self.scheme}://{user}{self.authority}{self.target}"

    @property
    def authority(self) -> str:
        """As in the Host header: the port only if it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def shown(self) -> str:
        return shown(self.text)

    @property
    def authorization(self) -> dict[str, str]:
        """The header that user and password make, if there are any (RFC 7617)."""
        if not self.user:
            return {}
        return {"authorization": f"Basic {b64encode(unquote_to_bytes(self.user)).decode()}"}

    def join(self, location: str) -> HttpUrl:
        """Where a Location header leads; raises ShardError(invalid)."""
        try:
            found = urljoin(self.text, location)
        except ValueError as error:
            raise _invalid(location, f"is not a URL: {error}") from error
        return HttpUrl.parse(found)


def _host(host: str, text: str) -> str:
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError as error:
            raise _invalid(text, "has a host that is no address") from error
    try:
        found = host.encode("idna").decode().lower()
    except UnicodeError as error:
        raise _invalid(text, "has a host that is no name") from error
    if _HOST.fullmatch(found) is None:
        raise _invalid(text, "has a host that is no name")
    return found


def _target(parts: SplitResult) -> str:
    query = f"?{_quoted(parts.query, _QUERY_SAFE)}" if parts.query else ""
    return (_quoted(parts.path, _PATH_SAFE) or "/") + query


def _quoted(text: str, safe: str) -> str:
    return quote(LONE_PERCENT.sub("%25", text), safe=safe)


def _invalid(text: str, why: str) -> ShardError:
    return ShardError(ErrorClass.INVALID, f"{shown(text)!r} {why}")
