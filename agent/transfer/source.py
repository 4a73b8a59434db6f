"""Where blocks come from: one protocol for gateways, other agents, IPFS nodes and whatever tests make."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from carlib.cid import Cid
from carlib.traversal import Request


class BlockSource(Protocol):
    """A server that may have blocks. Nothing that it says is believed.

    Everything raises ShardError: gone or not-found (it has none of it), denied, busy (`TryLater`: unreachable,
    overloaded, broken off in the middle), corrupt (not what was asked for).
    """

    @property
    def name(self) -> str:
        """For people, and to tell sources apart; holds no secrets."""

    @property
    def host(self) -> str:
        """What `Link` is asked about."""

    @property
    def gives_parts(self) -> bool:
        """Whether it can be asked for paths, scopes and ranges; else for single blocks and all below one."""

    def car(self, request: Request) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """A CARv1, depth first and without duplicates if it can, in pieces as they come.

        An end that was not clean is raised (busy). Leaving the block ends the transfer.
        """

    async def raw(self, cid: Cid, begin: bytes = b"") -> bytes:
        """One block, not verified. `begin`: what it has given of it already; a source that can gives the rest alone."""
