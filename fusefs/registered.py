"""`shards/` of an agent: its shards, registered by `ln -s URL-or-path shards/name` and destroyed by `rmdir`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from agent.dagstore.mounts.file import FileMount
from carlib import names
from fusefs.attributes import Attributes
from fusefs.errors import BadName, NameTaken, NoSource, NoSuchName, ReadOnlyTree
from fusefs.imports import THREADS, WAITING, Changing, MadeLink, Writers, let_go, outside
from fusefs.shards import Shards
from fusefs.stores import Stores
from fusefs.tree import SHARDS, Entry, Known, Node, Who, Writing
from fusefs.waits import Lane, Pool

_URL: Final = re.compile(r"(?:[a-z][a-z0-9+.-]*://|bytes:|file:)")


class ShardsFolder:
    """The directory."""

    lasting = settled = False
    lane = None
    version = b""

    def __init__(
        self, shards: Shards, stores: Stores, agent: Changing, mountpoint: Path, *, writers: Writers
    ) -> None:
        self.writing: Lane = Pool(threads=THREADS, per_lane=THREADS, waiting=WAITING).lane()
        self._shards = shards
        self._stores = stores
        self._agent = agent
        self._mountpoint = mountpoint
        self._writers = writers

    def attributes(self) -> Attributes:
        return self._writers.folder(self._shards.mtime_ns, len(self._shards.folders()))

    def facts(self) -> Mapping[str, str]:
        return {}

    def child(self, name: bytes) -> Node | None:
        return self._shards.folders().get(name)

    child_nowait = child

    def children(self, known: Known) -> Iterator[Entry]:
        yield from self._shards.folders().items()

    # Changes, in threads

    def make_file(self, name: bytes, mode: int, who: Who) -> tuple[Node, Writing]:
        raise ReadOnlyTree("a shard is registered by a link to its data")

    def make_folder(self, name: bytes, mode: int, who: Who) -> Node:
        raise ReadOnlyTree("a shard is registered by a link to its data")

    def make_link(self, name: bytes, target: bytes, who: Who) -> Node:
        if self.child(name) is not None:
            raise NameTaken(f"there is a shard {name!r} already")
        try:
            key = (names.unshown(name) or b"").decode()
        except UnicodeDecodeError:
            key = ""
        if not key:
            raise BadName(f"{name!r} cannot be the key of a shard")
        url = os.fsdecode(target)
        if not _URL.match(url):
            folder = self._mountpoint / os.fsdecode(SHARDS)
            if b"/" not in target and self.child(target) is None:
                raise NoSource(f"there is no shard {target!r}, and no path from shards/ either")
            url = FileMount.at(os.fsencode(outside(self._mountpoint, folder, target))).url
        self._agent.register(key, url)
        return MadeLink(target, who)

    def make_name(self, name: bytes, node: Node) -> Node:
        raise ReadOnlyTree("a shard has one name")

    def remove_file(self, name: bytes) -> None:
        raise NoSuchName

    def remove_folder(self, name: bytes) -> None:
        shard = self._shards.named(name)
        if shard is None:
            raise NoSuchName
        let_go(self._stores, shard)
        self._agent.destroy(shard.key)

    def move(self, name: bytes, into: Node, new: bytes, *, replace: bool) -> None:
        raise ReadOnlyTree("the key of a shard does not change")
