"""Where the RPC API of an IPFS node is: a multiaddr or a URL, or found as `ipfs` itself finds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.urls import HttpUrl

DEFAULT: Final = "/ip4/127.0.0.1/tcp/5001"
_HOSTS: Final = ("ip4", "ip6", "dns", "dns4", "dns6")
_MOST_BYTES: Final = 1024


def api_url(given: str, environ: Mapping[str, str]) -> HttpUrl:
    """The URL, without `/api/v0`. Nothing given: what the node wrote into `$IPFS_PATH/api`, else its usual address.

    Raises ShardError(invalid).
    """
    text = given or _of_repository(environ) or DEFAULT
    return HttpUrl.parse(text if text.startswith(("http://", "https://")) else _of_multiaddr(text))


def _of_repository(environ: Mapping[str, str]) -> str:
    folder = environ.get("IPFS_PATH") or (f"{environ['HOME']}/.ipfs" if environ.get("HOME") else "")
    if not folder:
        return ""
    try:
        with Path(folder, "api").open() as file:
            return file.read(_MOST_BYTES).strip()
    except (OSError, UnicodeDecodeError):
        return ""  # no node runs there


def _of_multiaddr(text: str) -> str:
    parts = text.split("/")
    match parts:
        case ["", host, name, "tcp", port, *rest] if host in _HOSTS and port.isascii() and port.isdecimal():
            scheme = {(): "http", ("http",): "http", ("https",): "https", ("tls", "http"): "https"}.get(
                tuple(rest)
            )
            if scheme is not None and name:
                return f"{scheme}://{f'[{name}]' if host == 'ip6' else name}:{port}"
    hint = f"write {DEFAULT}, /dns4/HOST/tcp/PORT/https, or http://HOST:PORT"
    raise ShardError(ErrorClass.INVALID, f"{text[:200]!r} is no address of an IPFS node's API; {hint}")
