"""Hand-made UnixFS nodes, right and wrong, and stores that tell what was read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from carlib import dagpb
from carlib.blockstore import MemoryBlocks
from carlib.cid import DAG_PB, RAW, Cid
from carlib.dagpb import PBLink
from carlib.unixfs.hamt import MURMUR3_X64_64, slot_prefixes
from carlib.unixfs.node import Data, DataType


class CountingBlocks(MemoryBlocks):
    """A store that lists what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[Cid] = []

    def get(self, cid: Cid) -> bytes:
        self.read.append(cid)
        return super().get(cid)

    def forget(self, cid: Cid) -> None:
        del self._blocks[cid.multihash]


def put(blocks: MemoryBlocks, block: bytes, codec: int = DAG_PB) -> Cid:
    cid = Cid.of(block, codec)
    blocks.put(cid, block)
    return cid


def put_node(blocks: MemoryBlocks, links: Iterable[PBLink] = (), data: bytes | None = None) -> Cid:
    return put(blocks, dagpb.encode(dagpb.PBNode(tuple(links), data)))


def put_raw(blocks: MemoryBlocks, data: bytes) -> Cid:
    return put(blocks, data, RAW)


def put_file(
    blocks: MemoryBlocks, children: Iterable[tuple[Cid, int]], inline: bytes | None = None, **changes: Any
) -> Cid:
    """A file node over (child, its size); `changes` are fields that differ from what is right."""
    children = list(children)
    sizes = tuple(size for _, size in children)
    fields: dict[str, Any] = {
        "filesize": sum(sizes) + len(inline or b""),
        "blocksizes": sizes,
        "data": inline,
    }
    data = Data(DataType.FILE, **{**fields, **changes})
    return put_node(blocks, (PBLink(cid) for cid, _ in children), data.encode())


def put_directory(blocks: MemoryBlocks, entries: Iterable[tuple[bytes, Cid]]) -> Cid:
    return put_node(blocks, (PBLink(cid, name) for name, cid in entries), Data(DataType.DIRECTORY).encode())


def put_shard(blocks: MemoryBlocks, slots: dict[int, tuple[bytes, Cid]], **changes: Any) -> Cid:
    """A shard of fanout 256 with (entry name, or nothing for a sub-shard; CID) by slot."""
    prefixes = slot_prefixes(256)
    bits = sum(1 << slot for slot in slots)
    fields: dict[str, Any] = {
        "data": bits.to_bytes((bits.bit_length() + 7) // 8, "big"),
        "hash_type": MURMUR3_X64_64,
        "fanout": 256,
    }
    data = Data(DataType.HAMT_SHARD, **{**fields, **changes})
    links = (PBLink(cid, prefixes[slot] + name) for slot, (name, cid) in sorted(slots.items()))
    return put_node(blocks, links, data.encode())
