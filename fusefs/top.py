"""What the mountpoint itself shows: with an agent, and over CAR files (the picture is in `tree.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from carlib import names, unixfs
from carlib.errors import CarError
from fusefs.catalogue import Catalogue
from fusefs.control import ControlFolder
from fusefs.dag import node_at
from fusefs.shards import Shards
from fusefs.tree import IMPORTS, RETRIEVALS, SHARDS, Folder, HiddenBeside, Node, StaticFolder
from fusefs.views.folder import ShardFolder
from fusefs.views.ipfs import NAME as IPFS
from fusefs.views.ipfs import IpfsFolder

if TYPE_CHECKING:  # which a mount of CAR files has no use for
    from fusefs.imports import ImportsFolder
    from fusefs.registered import ShardsFolder
    from fusefs.retrievals import RetrievalsFolder

CONTROL = b".carfs"


def of_agent(
    shards: ShardsFolder,
    imports: ImportsFolder,
    retrievals: RetrievalsFolder,
    catalogue: Catalogue,
    ipfs: IpfsFolder,
) -> Folder:
    """`shards/`, `imports/`, `retrievals/`, `ipfs/` and `.carfs/`."""

    def mtime_ns() -> int:
        return max(folder.attributes().mtime_ns for folder in (shards, imports, retrievals))

    control = ControlFolder(catalogue.document, mtime_ns)
    top: dict[bytes, Node] = {
        SHARDS: shards, IMPORTS: imports, RETRIEVALS: retrievals, IPFS: ipfs, CONTROL: control
    }  # fmt: skip
    return StaticFolder(lambda: top, lasting=False, mtime_ns=mtime_ns)


def of_files(shards: Shards) -> Folder:
    """One CAR with one root that is there: that root; one CAR otherwise: its shard directory; several: one each."""
    found = shards.all()
    if len(found) > 1:
        return StaticFolder(shards.folders, lasting=True, mtime_ns=lambda: shards.mtime_ns, only_folders=True)
    shard = found[0]
    everything = ShardFolder(shard)
    with shard.use() as opened:
        roots = shard.roots(opened)
        if len(roots) != 1 or not opened.blocks.has(roots[0]):
            return everything
        try:
            root = node_at(shard, opened.blocks, roots[0], b"", b"")
            if unixfs.stat(opened.blocks, roots[0]).kind is unixfs.Kind.DIRECTORY:
                opened.folder(roots[0])
        except CarError:
            return everything
    if not hasattr(root, "children"):
        name = names.shown(Path(shard.record.key).stem.encode(errors="surrogateescape") or b"root")
        only: dict[bytes, Node] = {name: root}
        return HiddenBeside(
            StaticFolder(lambda: only, lasting=True, mtime_ns=lambda: shard.mtime_ns), {CONTROL: everything}
        )
    return HiddenBeside(root, {CONTROL: everything})  # type: ignore[arg-type]  # it has children: a Folder
