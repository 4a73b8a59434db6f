"""What `ipfs/` shows beside the shards: roots of imports and retrievals, and what the agent fetches on demand."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

from carlib.cid import Cid
from carlib.errors import BlockNotFound, CarError
from fusefs.dag import node_at
from fusefs.errors import MountError, NotAllowed
from fusefs.shard import Shard
from fusefs.shards import Shards
from fusefs.stores import Stores
from fusefs.tree import Node

logger = logging.getLogger(__name__)


class OnDemand(Protocol):
    """What is asked of the agent; see `AgentChanges`. All of it blocks, and raises MountError."""

    def retrieve(self, cid: str, *, on_demand: bool = False) -> str: ...

    def drop_retrieval(self, key: str) -> None: ...


class Elsewhere:
    """Used from threads."""

    def __init__(self, imports: Shards, retrievals: Shards, retrieved: Stores, agent: OnDemand) -> None:
        self._imports = imports
        self._retrievals = retrievals
        self._retrieved = retrieved
        self._agent = agent

    def find(self, cid: Cid, name: bytes) -> Node | None:
        """The node for what is the root of an import or a retrieval here."""
        for shard in self._with_root(cid):
            try:
                with shard.use() as opened:
                    return node_at(shard, opened.here or opened.blocks, cid, name, name)
            except (CarError, MountError, OSError) as error:  # another one may have it
                logger.debug("ipfs/%s in %s: %s", cid, shard.label, error)
        return None

    def fetch(self, cid: Cid, name: bytes) -> Node | None:
        """Has the agent fetch it, block by block as they are read, and waits for the first. None if it does not do
        that, or nobody has it."""
        try:
            begun = self._agent.retrieve(str(cid), on_demand=True)
        except NotAllowed:
            return None
        shard = self._retrievals.named(begun.encode())
        if shard is None:
            return None
        try:
            with shard.use() as opened:
                return node_at(shard, opened.blocks, cid, name, name)
        except BlockNotFound:
            self._give_up(shard)
            return None

    def _give_up(self, shard: Shard) -> None:
        """A retrieval of nothing would only be in the way."""
        if not shard.record.document.get("Bytes") and self._retrieved.let_go(shard):
            try:
                self._agent.drop_retrieval(shard.key)
            except MountError as error:  # somebody else wants it
                logger.debug("%s: %s", shard.label, error)

    def _with_root(self, cid: Cid) -> Iterator[Shard]:
        for shards in (self._imports, self._retrievals):
            for shard in shards.all():
                record = shard.record
                if record.readable and any(_multihash(root) == cid.multihash for root in record.roots):
                    yield shard


@lru_cache(65536)
def _multihash(root: str) -> bytes:
    return Cid.parse(root).multihash
