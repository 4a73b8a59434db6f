"""What a web page in somebody's browser must not do: reach the agent on loopback under the page's own name.

DNS rebinding makes a name of the attacker's point to 127.0.0.1; the browser then sends that name as `Host`. Nobody can
rebind an address or `localhost`. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

LOCAL_NAMES = frozenset({"localhost"})


def refusal(host: str, origin: str | None, *, hosts: Collection[str], origins: Collection[str]) -> str:
    """Why a request is refused, empty if it is not; `host` and `origin` are the headers, the rest is configured."""
    name = host_name(host)
    if not (_is_address(name) or name in LOCAL_NAMES or name in hosts):
        return f"the host {host!r} is not one of rpc.allowed_hosts"
    if origin is not None and origin not in origins:
        return f"the origin {origin!r} is not one of rpc.allowed_origins"
    return ""


def host_name(host: str) -> str:
    """The name or address of a `Host` header, in lower case and without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
