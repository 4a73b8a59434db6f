"""A trustless gateway: what most of the world serves, this agent too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_from_bytes

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.fetcher import Answer
from agent.dagstore.mounts.urls import HttpUrl
from agent.gateway.asked import CAR_TYPE, RAW_TYPE
from agent.transfer.sources.means import Means
from carlib.cid import Cid
from carlib.limits import MAX_BLOCK_BYTES
from carlib.traversal import Request, Scope

_ACCEPT_CAR: Final = f"{CAR_TYPE}; version=1; order=dfs; dups=n"


@dataclass(frozen=True, slots=True)
class GatewaySource:
    """The one at a URL, below whose path `/ipfs/` is."""

    base: HttpUrl
    means: Means

    gives_parts: bool = True

    @property
    def name(self) -> str:
        return self.base.shown.rstrip("/")

    @property
    def host(self) -> str:
        return self.base.host

    @asynccontextmanager
    async def car(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        path = "".join(f"/{quote_from_bytes(segment, safe='')}" for segment in request.path)
        scope = Scope.ENTITY if request.entity_bytes is not None else request.scope
        query = f"format=car&dag-scope={scope.value}&car-order=dfs&car-dups=n"
        if request.entity_bytes is not None:
            last = "*" if request.entity_bytes.last is None else str(request.entity_bytes.last)
            query += f"&entity-bytes={request.entity_bytes.first}:{last}"
        url = self._url(f"{request.root}{path}?{query}")
        async with self.means.get(url, {"accept": _ACCEPT_CAR}) as answer:
            kind = answer.headers.get("content-type", "")
            if not kind.startswith(CAR_TYPE):
                raise ShardError(ErrorClass.INVALID, f"{self.name} does not give CARs but {kind[:60]!r}")
            yield answer.body

    async def raw(self, cid: Cid, begin: bytes = b"") -> bytes:
        url = self._url(f"{cid}?format=raw")
        headers = {"accept": RAW_TYPE} | ({"range": f"bytes={len(begin)}-"} if begin else {})
        async with self.means.get(url, headers, partial=bool(begin)) as answer:
            data = bytearray(begin if _goes_on(answer, len(begin)) else b"")
            async for piece in answer.body:
                data += piece
                if len(data) > MAX_BLOCK_BYTES:
                    raise ShardError(ErrorClass.INVALID, f"{self.name} gives more for {cid} than a block has")
        return bytes(data)

    def _url(self, target: str) -> HttpUrl:
        path = self.base.target.rstrip("/").removesuffix("/ipfs")
        return HttpUrl(
            self.base.scheme, self.base.host, self.base.port, f"{path}/ipfs/{target}", self.base.user
        )


def _goes_on(answer: Answer, start: int) -> bool:
    """Whether it begins there, as it was asked to; a server may give all of it instead (RFC 9110, 14.2)."""
    if answer.status != 206:
        return False
    if not answer.headers.get("content-range", "").startswith(f"bytes {start}-"):
        raise ShardError(ErrorClass.INVALID, "it gave another range than was asked for")
    return True
