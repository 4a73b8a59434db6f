"""Delegated routing: who else has a CID. Source: IPFS specs, Routing V1 (an empty answer may be a 404)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.urls import HttpUrl
from agent.transfer.sources.gateway import GatewaySource
from agent.transfer.sources.means import Means
from carlib.cid import Cid

MAX_ANSWER_BYTES: Final = 1 << 20
MOST: Final = 16
"""Providers that are asked."""
_PROTOCOL: Final = "transport-ipfs-gateway-http"


async def providers(router: HttpUrl, cid: Cid, means: Means) -> list[GatewaySource]:
    """The gateways that a router names for a CID, as it has them; raises ShardError."""
    path = router.target.rstrip("/").removesuffix("/routing/v1")
    target = f"{path}/routing/v1/providers/{cid}?filter-protocols={_PROTOCOL}"
    url = HttpUrl(router.scheme, router.host, router.port, target, router.user)
    data = bytearray()
    try:
        async with means.get(url, {"accept": "application/json"}) as answer:
            async for piece in answer.body:
                data += piece
                if len(data) > MAX_ANSWER_BYTES:
                    raise ShardError(ErrorClass.INVALID, f"{router.shown} names too many providers")
    except ShardError as error:
        if error.error_class is ErrorClass.NOT_FOUND:
            return []
        raise
    try:
        document = msgspec.json.decode(bytes(data))
    except msgspec.DecodeError as error:
        raise ShardError(ErrorClass.INVALID, f"{router.shown} gave no JSON: {error}") from error
    found = dict.fromkeys(_urls(document))
    return [GatewaySource(url, means) for url in list(found)[:MOST]]


def _urls(document: Any) -> Iterator[HttpUrl]:  # Any: JSON of somebody else's
    records = document.get("Providers") if isinstance(document, dict) else None
    for record in records if isinstance(records, list) else ():
        if not isinstance(record, dict) or _PROTOCOL not in (record.get("Protocols") or ()):
            continue
        for address in record.get("Addrs") or ():
            url = url_of(address) if isinstance(address, str) else None
            if url is not None:
                yield url


def url_of(multiaddr: str) -> HttpUrl | None:
    """`/dns4/host/tcp/443/https` and the like as a URL; None for anything else."""
    parts = multiaddr.strip("/").split("/")
    if len(parts) < 5 or parts[0] not in ("dns", "dns4", "dns6", "ip4", "ip6") or parts[2] != "tcp":
        return None
    rest = parts[4:]
    scheme = (
        "https" if rest[0] == "https" or rest[:2] == ["tls", "http"] else "http" if rest[0] == "http" else ""
    )
    if not scheme or not parts[3].isdigit():
        return None
    host = f"[{parts[1]}]" if parts[0] == "ip6" else parts[1]
    try:
        return HttpUrl.parse(f"{scheme}://{host}:{parts[3]}/")
    except ShardError:
        return None
