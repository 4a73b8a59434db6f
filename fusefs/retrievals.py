"""`retrievals/`: DAGs that the agent has fetched, or is fetching.

mkdir retrievals/<cid>      begins to fetch it; what a directory of that name shows tells how far that is
rmdir retrievals/<cid>      calls it off, and drops what has come
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Protocol

from fusefs.attributes import Attributes
from fusefs.errors import NameTaken, NoSuchName, ReadOnlyTree, UnfitSource
from fusefs.imports import THREADS, WAITING, Writers, let_go
from fusefs.shards import Shards
from fusefs.stores import Stores
from fusefs.tree import Entry, Known, Node, Who, Writing
from fusefs.views.blocks import cid_of
from fusefs.waits import Lane, Pool


class Retrieving(Protocol):
    """What is asked of the agent; see `AgentChanges`. All of it blocks, and raises MountError."""

    def retrieve(self, cid: str, *, on_demand: bool = False) -> str: ...

    def drop_retrieval(self, key: str) -> None: ...


class RetrievalsFolder:
    """The directory."""

    lasting = settled = False
    lane = None
    version = b""

    def __init__(self, retrievals: Shards, stores: Stores, agent: Retrieving, *, writers: Writers) -> None:
        self.writing: Lane = Pool(threads=THREADS, per_lane=THREADS, waiting=WAITING).lane()
        self._retrievals = retrievals
        self._stores = stores
        self._agent = agent
        self._writers = writers

    def attributes(self) -> Attributes:
        return self._writers.folder(self._retrievals.mtime_ns, len(self._retrievals.folders()))

    def facts(self) -> Mapping[str, str]:
        return {}

    def child(self, name: bytes) -> Node | None:
        return self._retrievals.folders().get(name)

    child_nowait = child

    def children(self, known: Known) -> Iterator[Entry]:
        yield from self._retrievals.folders().items()

    # Changes, in threads

    def make_folder(self, name: bytes, mode: int, who: Who) -> Node:
        if cid_of(name) is None:
            raise UnfitSource(f"{os.fsdecode(name)} is no CID, which the name of a retrieval is")
        if self.child(name) is not None:
            raise NameTaken(f"{os.fsdecode(name)} is retrieved already")
        found = os.fsencode(self._agent.retrieve(name.decode()))
        if found != name:
            raise NameTaken(f"it is retrieved already as {os.fsdecode(found)}")
        made = self.child(name)
        if made is None:  # somebody has dropped it already
            raise NoSuchName
        return made

    def remove_folder(self, name: bytes) -> None:
        shard = self._retrievals.named(name)
        if shard is None:
            raise NoSuchName
        let_go(self._stores, shard)
        self._agent.drop_retrieval(shard.key)

    def make_file(self, name: bytes, mode: int, who: Who) -> tuple[Node, Writing]:
        raise ReadOnlyTree("a retrieval is begun by mkdir")

    def make_link(self, name: bytes, target: bytes, who: Who) -> Node:
        raise ReadOnlyTree("a retrieval is begun by mkdir")

    def make_name(self, name: bytes, node: Node) -> Node:
        raise ReadOnlyTree("a retrieval has one name")

    def remove_file(self, name: bytes) -> None:
        raise NoSuchName

    def move(self, name: bytes, into: Node, new: bytes, *, replace: bool) -> None:
        raise ReadOnlyTree("the name of a retrieval is its CID")
