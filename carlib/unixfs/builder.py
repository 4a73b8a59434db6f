"""Files, directories and symlinks as blocks, by the rules of a profile.

Children are put before their parents.  Callers: ``carlib.pack`` with a tree of files, tests with bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from itertools import chain, islice

from carlib import dagpb
from carlib.cid import DAG_PB, RAW, Cid
from carlib.unixfs import sharding
from carlib.unixfs.hashing import Built, LeafQueue, Sink
from carlib.unixfs.layout import LAYOUTS
from carlib.unixfs.links import Link, Links
from carlib.unixfs.node import Data, DataType
from carlib.unixfs.profile import CARFS, DirectorySize, Layout, Profile


class Builder:
    """Builds into ``sink``.  With an ``executor`` (threads), leaves are hashed ahead; not thread-safe itself.

    What :meth:`file` gives may have no CID before :meth:`flush`; directories and inner nodes flush by themselves.
    """

    def __init__(
        self,
        sink: Sink,
        profile: Profile = CARFS,
        executor: Executor | None = None,
        release: Callable[[bytes], None] = lambda _chunk: None,
    ) -> None:
        """``release`` is given each chunk of a file that nobody will look at any more, so that its memory can be used
        again; the sink must not keep what it is given then."""
        self.profile = profile
        self._release = release
        self._sink = sink
        self._leaf_type = DataType.RAW if profile.layout is Layout.TRICKLE else DataType.FILE
        self._leaves = LeafQueue(sink, self._cid, executor, release)

    def flush(self) -> None:
        """Put all leaves that wait for their hash."""
        self._leaves.flush()

    def file(self, chunks: Iterable[bytes], *, mode: int | None = None, mtime_ns: int | None = None) -> Built:
        """The file of these ``chunks``, as the profile cuts them, none empty.

        A mode or mtime is in a dag-pb node, as a raw block holds neither: one around the only chunk, if need be (as in
        js-ipfs-unixfs), or leaves are dag-pb altogether where the profile says so (as in kubo).
        """
        source = iter(chunks)
        first = list(islice(source, 2))
        has_attributes = mode is not None or mtime_ns is not None
        is_trickle = self.profile.layout is Layout.TRICKLE
        if len(first) < 2 and has_attributes and not is_trickle:
            data = first[0] if first else None
            size = len(data or b"")
            return self._node(
                (), Data(DataType.FILE, data, size, mode=mode, mtime_ns=mtime_ns), size=size, below=0
            )
        raw = self.profile.raw_leaves and (self.profile.raw_with_attributes or not has_attributes)
        if len(first) < 2 and not is_trickle:
            return self._leaf(first[0] if first else b"", raw)  # as every layout has it, sooner

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

        empty = [] if is_trickle else [b""]
        leaves = (self._leaf(chunk, raw) for chunk in chain(first or empty, source))
        return LAYOUTS[self.profile.layout](leaves, self.profile.width, join)

    def symlink(self, target: bytes, *, mode: int | None = None, mtime_ns: int | None = None) -> Built:
        """A symlink to ``target``."""
        return self._node(
            (), Data(DataType.SYMLINK, target, mode=mode, mtime_ns=mtime_ns), size=len(target), below=0
        )

    def directory(
        self, entries: Links | Iterable[Link], *, mode: int | None = None, mtime_ns: int | None = None
    ) -> Built:
        """A directory, sharded if the profile wants it at that size; ValueError for a name that is there twice."""
        self.flush()
        links = entries if isinstance(entries, Links) else Links(entries)
        links.settle()
        data = Data(DataType.DIRECTORY, mode=mode, mtime_ns=mtime_ns)
        if not self._is_large(links, data):
            encoded = (dagpb.encode_link(cid, name, tsize) for name, cid, tsize in links)
            return self._node(encoded, data, size=0, below=links.tsize)
        return sharding.shard(links, self.profile.hamt_fanout, self._shard, mode, mtime_ns)

    def _is_large(self, links: Links, data: Data) -> bool:
        match self.profile.hamt_measure:
            case DirectorySize.ENTRIES:
                size = len(links)
            case DirectorySize.LINKS_BYTES:
                size = links.links_bytes()
            case DirectorySize.BLOCK_BYTES:
                size = len(dagpb.encode_parts((), data.encode())) + links.block_bytes()
        return size + self.profile.hamt_at_threshold > self.profile.hamt_threshold

    def _shard(self, links: Iterator[bytes], data: Data, below: int) -> Built:
        return self._node(links, data, size=0, below=below)

    def _leaf(self, chunk: bytes, raw: bool) -> Built:
        size = len(chunk)
        if raw:
            built = Built(size, size)
            self._leaves.add(built, chunk, RAW)
            return built
        data = Data(self._leaf_type, chunk if size else None, size)
        block = dagpb.encode_parts((), data.encode())
        self._release(chunk)
        built = Built(size, len(block))
        self._leaves.add(built, block, DAG_PB)
        return built

    def _node(self, links: Iterable[bytes], data: Data, *, size: int, below: int) -> Built:
        """Put one dag-pb node; ``below`` are the bytes of all blocks under it."""
        block = dagpb.encode_parts(links, data.encode())
        cid = self._cid(block, DAG_PB)
        self._sink.put(cid, block)
        return Built(size, below + len(block), cid.raw)

    def _cid(self, block: bytes, codec: int) -> Cid:
        profile = self.profile
        if 0 < profile.inline_limit >= len(block):
            return Cid.identity(block, codec)
        cid = Cid.of(block, codec, profile.hash_code)
        return cid if profile.cid_version else Cid(cid.multihash)
