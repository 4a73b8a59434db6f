"""Files, directories and symlinks as blocks, by the rules of a profile.

Children are put before their parents.  Callers: ``carlib.pack`` with a tree of files, tests with bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from itertools import chain, islice, pairwise

from carlib import dagpb
from carlib.cid import DAG_PB, RAW, Cid
from carlib.unixfs import sharding
from carlib.unixfs.hashing import Built, LeafQueue, Sink
from carlib.unixfs.layout import LAYOUTS
from carlib.unixfs.node import Data, DataType
from carlib.unixfs.profile import CARFS, DirectorySize, Layout, Profile

Link = tuple[bytes, Built]
"""A name and what it names."""


class Builder:
    """Builds into ``sink``.  With an ``executor`` (threads), leaves are hashed ahead; not thread-safe itself.

    What :meth:`file` gives may have no CID before :meth:`flush`; directories and inner nodes flush by themselves.
    """

    def __init__(self, sink: Sink, profile: Profile = CARFS, executor: Executor | None = None) -> None:
        self.profile = profile
        self._sink = sink
        self._leaf_type = DataType.RAW if profile.layout is Layout.TRICKLE else DataType.FILE
        self._leaves = LeafQueue(sink, self._name_leaf, executor)

    def flush(self) -> None:
        """Put all leaves that wait for their hash."""
        self._leaves.flush()

    def file(self, chunks: Iterable[bytes], *, mode: int | None = None, mtime_ns: int | None = None) -> Built:
        """The file of these ``chunks``, each of the profile's chunk size but the last, none empty.

        A file of one raw chunk that has a mode or mtime becomes one dag-pb node around it, as a raw block holds neither
        (js-ipfs-unixfs does the same; kubo turns raw leaves off altogether).
        """
        source = iter(chunks)
        first = list(islice(source, 2))
        if len(first) < 2 and (mode is not None or mtime_ns is not None):
            data = first[0] if first else None
            size = len(data or b"")
            return self._node(
                (), Data(DataType.FILE, data, size, mode=mode, mtime_ns=mtime_ns), size=size, below=0
            )

        def join(children: list[Built], is_root: bool) -> Built:
            self.flush()
            sizes = tuple(child.size for child in children)
            data = Data(DataType.FILE, None, sum(sizes), sizes)
            if is_root:
                data = Data(DataType.FILE, None, sum(sizes), sizes, mode=mode, mtime_ns=mtime_ns)
            return self._node(
                (dagpb.encode_link(child.raw, b"", child.tsize) for child in children),
                data,
                size=sum(sizes),
                below=sum(child.tsize for child in children),
            )

        leaves = map(self._leaf, chain(first or [b""], source))
        return LAYOUTS[self.profile.layout](leaves, self.profile.width, join)

    def symlink(self, target: bytes, *, mode: int | None = None, mtime_ns: int | None = None) -> Built:
        """A symlink to ``target``."""
        return self._node(
            (), Data(DataType.SYMLINK, target, mode=mode, mtime_ns=mtime_ns), size=len(target), below=0
        )

    def directory(
        self, links: Iterable[Link], *, mode: int | None = None, mtime_ns: int | None = None
    ) -> Built:
        """A directory, sharded if the profile wants it at that size; ValueError for a name that is there twice."""
        self.flush()
        entries = sorted(links, key=lambda link: link[0])
        for (name, _), (following, _) in pairwise(entries):
            if name == following:
                raise ValueError(f"the name {name!r} is in a directory twice")
        data = Data(DataType.DIRECTORY, mode=mode, mtime_ns=mtime_ns)
        below = sum(built.tsize for _, built in entries)
        if not self._is_large(entries, data):
            encoded = (dagpb.encode_link(built.raw, name, built.tsize) for name, built in entries)
            return self._node(encoded, data, size=0, below=below)
        return sharding.shard(entries, self.profile.hamt_fanout, self._shard, mode, mtime_ns)

    def _is_large(self, entries: list[Link], data: Data) -> bool:
        match self.profile.hamt_measure:
            case DirectorySize.ENTRIES:
                size = len(entries)
            case DirectorySize.LINKS_BYTES:
                size = sum(len(name) + len(built.raw) for name, built in entries)
            case DirectorySize.BLOCK_BYTES:
                size = len(dagpb.encode_parts((), data.encode()))
                for name, built in entries:
                    size += dagpb.link_size(len(built.raw), len(name), built.tsize)
        return size > self.profile.hamt_threshold

    def _shard(self, links: Iterator[bytes], data: Data, below: int) -> Built:
        return self._node(links, data, size=0, below=below)

    def _leaf(self, chunk: bytes) -> Built:
        if self.profile.raw_leaves:
            built = Built(len(chunk), len(chunk))
            self._leaves.add(built, chunk)
            return built
        data = Data(self._leaf_type, chunk if len(chunk) else None, len(chunk))
        block = dagpb.encode_parts((), data.encode())
        built = Built(len(chunk), len(block))
        self._leaves.add(built, block)
        return built

    def _name_leaf(self, block: bytes) -> Cid:
        return self._cid(block, RAW if self.profile.raw_leaves else DAG_PB)

    def _node(self, links: Iterable[bytes], data: Data, *, size: int, below: int) -> Built:
        """Put one dag-pb node; ``below`` are the bytes of all blocks under it."""
        block = dagpb.encode_parts(links, data.encode())
        cid = self._cid(block, DAG_PB)
        self._sink.put(cid, block)
        return Built(size, below + len(block), cid.raw)

    def _cid(self, block: bytes, codec: int) -> Cid:
        cid = Cid.of(block, codec, self.profile.hash_code)
        return cid if self.profile.cid_version else Cid(cid.multihash)
