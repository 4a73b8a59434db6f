"""Which source a text stands for: one line a kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.urls import HttpUrl
from agent.ipfs.node import IpfsNode
from agent.transfer.source import BlockSource
from agent.transfer.sources.gateway import GatewaySource
from agent.transfer.sources.kubo import KuboSource
from agent.transfer.sources.means import Means
from agent.transfer.sources.piece import PieceSource

IPFS: Final = "ipfs"

Kind = Callable[[str, Means, Path], BlockSource | None]
"""From a text, the means, and where a copy may be kept; None if it is none of this kind. Raises ShardError(invalid)."""


def _web(text: str, means: Means, part: Path) -> BlockSource | None:
    if not text.startswith(("http://", "https://")):
        return None
    url = HttpUrl.parse(text)
    path = url.target.partition("?")[0]
    if "/piece/" in path or path.endswith(".car"):
        return PieceSource(url, means, part)
    return GatewaySource(url, means)


def _ipfs(text: str, means: Means, part: Path) -> BlockSource | None:
    if text != IPFS and not text.startswith(f"{IPFS}:"):
        return None
    return KuboSource(ipfs_node(text, means))


KINDS: list[Kind] = [_web, _ipfs]


def ipfs_node(text: str, means: Means) -> IpfsNode:
    """The node that "ipfs" (of the configuration) or "ipfs:ADDRESS" stands for; raises ShardError(invalid)."""
    name, _, address = text.partition(":")
    if name != IPFS:
        raise ShardError(ErrorClass.INVALID, f"{text[:200]!r} is no IPFS node; write ipfs or ipfs:ADDRESS")
    node = IpfsNode.of(address, means.poster, means.ipfs)
    means.trust(node.base)
    return node


def source_of(text: str, means: Means, part: Path) -> BlockSource:
    """The source that a text names, which may be at a private address, since somebody of ours has named it."""
    for kind in KINDS:
        source = kind(text, means, part)
        if source is not None:
            if isinstance(source, GatewaySource):
                means.trust(source.base)
            elif isinstance(source, PieceSource):
                means.trust(source.url)
            return source
    hint = (
        "http(s)://HOST for a gateway or an agent, http(s)://HOST/piece/CID for a CAR, ipfs for an IPFS node"
    )
    raise ShardError(ErrorClass.INVALID, f"{text[:200]!r} is no source; {hint}")
