"""Nodes of a DAG: UnixFS files, directories and symlinks, and blocks that are shown as they are.

Names go through `carlib.names`, both ways.  A directory entry whose block cannot be read is still listed (the
name is there); looking it up says what is wrong.  The size of a raw leaf comes from the CAR's index, its data
is not read for it; an entry's `Tsize` is only a hint and never believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from carlib import names, unixfs
from carlib.blockstore import Blocks
from carlib.cid import RAW, Cid, codec_name
from carlib.errors import CarError, Malformed
from fusefs.attributes import FILE, Attributes, of_unixfs
from fusefs.content import DagContent, FileLeaves, LeafSource, WholeBlock
from fusefs.nearby import Nearby
from fusefs.origin import Opened, Origin
from fusefs.resident import NotResident
from fusefs.tree import Content, Entry, Known, Node
from fusefs.waits import Lane

_MAX_TARGET_BYTES = 4095
_RAW_CID = b"\x01\x55"
_CUT_BYTES = 250


class DagNode:
    """What all nodes of a DAG have: a shard, a CID and, where the name was escaped, the name as it is stored."""

    __slots__ = ("_attributes", "cid", "name", "shard")
    lasting = True
    version = b""

    def __init__(self, shard: Origin, cid: Cid, attributes: Attributes, name: bytes | None = None) -> None:
        self.shard = shard
        self.cid = cid
        self.name = name
        self._attributes = attributes

    def attributes(self) -> Attributes:
        return self._attributes

    def facts(self) -> Mapping[str, str]:
        facts = {
            "cid": str(self.cid),
            "codec": codec_name(self.cid.codec),
            "size": str(self._attributes.size),
            "verified": "on-read",
            **self.shard.facts(),
        }
        if self.name is not None:
            facts["name"] = self.name.decode(errors="surrogateescape")
        return facts


class DagFolder(DagNode):
    """A UnixFS directory, plain or sharded."""

    __slots__ = ()
    settled = True

    @property
    def lane(self) -> Lane:
        return self.shard.names_lane

    def child(self, name: bytes) -> Node | None:
        with self.shard.use() as opened:
            entry = self._find(opened.folder(self.cid), name)
            return None if entry is None else node_at(self.shard, opened.blocks, entry.cid, entry.name, name)

    def child_nowait(self, name: bytes) -> Node | None:
        opened = self.shard.hold_nowait()
        if opened is None:
            raise NotResident
        try:
            folder, stored = opened.folder_nowait(self.cid), names.unshown(name)
            if opened.resident is None or folder is None or folder.sharded or stored is None:
                raise NotResident
            entry = folder.lookup(stored)
            if entry is None:
                return None
            return node_at(self.shard, opened.resident, entry.cid, stored, name)
        except CarError:
            raise NotResident from None  # the real store says what is wrong
        finally:
            self.shard.drop(opened)

    def children(self, known: Known) -> Iterator[Entry]:
        shard = self.shard
        with shard.use() as opened:
            failures: list[CarError] = []
            nearby = opened.nearby()
            for entry in opened.folder(self.cid).entries(failures.append):
                shown = names.shown(entry.name)
                node = known(shown)
                if node is None:
                    try:
                        node = node_at(shard, opened.blocks, entry.cid, entry.name, shown, nearby)
                    except (CarError, OSError):
                        node = None
                yield shown, node
            if failures:
                raise failures[0]

    @staticmethod
    def _find(folder: unixfs.Directory, name: bytes) -> unixfs.Entry | None:
        stored = names.unshown(name)
        if stored is not None:
            return folder.lookup(stored)
        if (
            len(name) > _CUT_BYTES and name[-65:-64] == b"~"
        ):  # too long to be shown whole: only a listing can tell
            return next((entry for entry in folder if names.shown(entry.name) == name), None)
        return None


class DagFile(DagNode):
    """A UnixFS file, or a block shown as it is (`whole`)."""

    __slots__ = ("_whole",)

    def __init__(
        self,
        shard: Origin,
        cid: Cid,
        attributes: Attributes,
        name: bytes | None = None,
        *,
        whole: bool = False,
    ) -> None:
        super().__init__(shard, cid, attributes, name)
        self._whole = whole

    def open(self) -> Content:
        size = self._attributes.size
        source: LeafSource = (
            WholeBlock(self.cid, size) if self._whole or self.cid.codec == RAW else FileLeaves(self.cid, size)
        )
        return DagContent(self.shard, source)


class DagLink(DagNode):
    """A UnixFS symlink; its target is shown as stored and may lead anywhere, like any symlink's."""

    __slots__ = ("_target",)

    def __init__(
        self, shard: Origin, cid: Cid, attributes: Attributes, name: bytes | None, target: bytes
    ) -> None:
        super().__init__(shard, cid, attributes, name)
        self._target = target

    @property
    def target(self) -> bytes:
        if not self._target or b"\0" in self._target or len(self._target) > _MAX_TARGET_BYTES:
            raise Malformed(
                f"symlink {self.cid} has a target of {len(self._target)} bytes that no path can be"
            )
        return self._target


def node_at(
    shard: Origin, blocks: Blocks, cid: Cid, stored: bytes, shown: bytes, nearby: Nearby | None = None
) -> Node:
    """The node for `cid`; reads one block if it is dag-pb, else asks for its size.  Raises CarError, OSError."""
    name = None if stored == shown else stored
    if cid.raw[:2] == _RAW_CID:
        size = blocks.size(cid) if nearby is None else nearby.size(cid)
        return DagFile(shard, cid, Attributes(FILE, size, shard.mtime_ns), name)
    found = unixfs.stat(blocks, cid)
    attributes = of_unixfs(found, shard.mtime_ns)
    if found.kind is unixfs.Kind.DIRECTORY:
        return DagFolder(shard, cid, attributes, name)
    if found.kind is unixfs.Kind.SYMLINK:
        return DagLink(shard, cid, attributes, name, found.target or b"")
    return DagFile(shard, cid, attributes, name, whole=found.kind is unixfs.Kind.OTHER)


def block_at(shard: Origin, opened: Opened, cid: Cid) -> DagFile:
    """The block of `cid` as a file of its bytes, whatever they mean."""
    size = opened.blocks.size(cid)
    return DagFile(shard, cid, Attributes(FILE, size, shard.mtime_ns), whole=True)
