"""An IPFS node beside us, by its RPC API: what it holds, and what it finds if it may look."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from agent.ipfs.node import IpfsNode
from carlib.cid import Cid
from carlib.limits import MAX_BLOCK_BYTES
from carlib.traversal import Request


@dataclass(frozen=True, slots=True)
class KuboSource:
    """Gives single blocks, and all below one."""

    node: IpfsNode

    gives_parts: bool = False

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def host(self) -> str:
        return self.node.base.host

    @asynccontextmanager
    async def car(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self.node.dag(request.root) as pieces:
            yield pieces

    async def raw(self, cid: Cid, begin: bytes = b"") -> bytes:
        return await self.node.block(cid, MAX_BLOCK_BYTES)
