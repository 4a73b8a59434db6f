"""What shards, imports and other retrievals here have: the source that is asked first, and costs no network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.gateway import cars
from agent.gateway.asked import CarAsked
from agent.local.blocks import LocalBlocks
from carlib.cid import Cid
from carlib.errors import BlockNotFound, CarError
from carlib.traversal import Request


@dataclass(frozen=True, slots=True)
class LocalSource:
    """All that is here, but for the retrieval that asks."""

    local: LocalBlocks

    name: str = "here"
    host: str = "localhost"
    gives_parts: bool = True

    @asynccontextmanager
    async def car(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self.local.session() as session:
            if not await trio.to_thread.run_sync(session.has, request.root, limiter=self.local.limiter):
                raise ShardError(ErrorClass.NOT_FOUND, f"{request.root} is not here")
            asked = CarAsked(request, "", "", duplicates=False)
            async with aclosing(cars.in_threads(cars.pieces(session, asked), self.local.limiter)) as pieces:
                yield pieces

    async def raw(self, cid: Cid, begin: bytes = b"") -> bytes:
        async with self.local.session() as session:
            try:
                return await trio.to_thread.run_sync(session.get, cid, limiter=self.local.limiter)
            except BlockNotFound:
                raise ShardError(ErrorClass.NOT_FOUND, f"{cid} is not here") from None
            except (CarError, OSError) as error:
                raise ShardError(ErrorClass.NOT_FOUND, f"{cid} cannot be read here: {error}") from error
