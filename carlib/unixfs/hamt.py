"""Sharded directories: a hash array mapped trie (HAMT) over the names.

Source: IPFS specs, UnixFS, and kubo's own files, where these differ: the bitfield is one big-endian number without its
leading zero bytes, and hash bits are taken from the most significant end of the first 64 bits of murmur3 x64-128.  Link
names are the slot in upper-case hex, then the entry's name, or nothing for a sub-shard.  An entry counts only in the
slot that its name hashes to, so no name can be there twice, and look-ups and listings agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import mmh3

from carlib import dagpb
from carlib.blockstore import Blocks
from carlib.cid import DAG_PB, Cid
from carlib.errors import CarError, LimitExceeded, Malformed
from carlib.unixfs import node
from carlib.unixfs.cache import NodeCache
from carlib.unixfs.entry import Entry, OnMissing
from carlib.varint import Buffer

MURMUR3_X64_64: Final = 0x22
HASH_BITS: Final = 64
MAX_FANOUT: Final = 1024
CACHED_LINKS: Final = 16_384
"""Links of shards that one directory keeps parsed: about 2 MB."""


def name_hash(name: bytes) -> int:
    """The 64 bits that place ``name``, the first to be used in the highest place."""
    return mmh3.hash64(name, signed=False)[0]


def slot_prefixes(fanout: int) -> tuple[bytes, ...]:
    """What link names begin with, by slot."""
    width = len(f"{fanout - 1:X}")
    return tuple(f"{slot:0{width}X}".encode() for slot in range(fanout))


SHARD_FANOUTS: Final = tuple(1 << power for power in range(3, 11))
"""Powers of two, multiples of 8, up to the maximum."""
_PREFIXES: Final = {fanout: slot_prefixes(fanout) for fanout in SHARD_FANOUTS}


@dataclass(frozen=True, slots=True)
class Shard:
    """One node of the trie: bit ``slot`` of ``bits`` says that a link is there; names are without the slot's prefix."""

    fanout: int
    bits: int
    slots: tuple[int, ...]
    names: list[bytes]
    cids: list[bytes]
    tsizes: list[int | None]

    @property
    def slot_bits(self) -> int:
        """Bits of hash that one level uses up."""
        return self.fanout.bit_length() - 1

    @classmethod
    def parse(cls, cid: Cid, block: Buffer) -> Shard:
        """The shard in ``block``; NotUnixFs for another node, Malformed for one that breaks the rules above."""
        cids, names, tsizes, message = dagpb.columns(block)
        found = None if message is None else node.Data.parse(message)
        if found is None or found.type is not node.DataType.HAMT_SHARD:
            raise node.refusal(cid, found, "a shard of a directory")
        if found.hash_type != MURMUR3_X64_64:
            raise Malformed(f"shard {cid} is placed by hash function {found.hash_type}, not 0x22")
        fanout = found.fanout or 0
        if fanout > MAX_FANOUT:
            raise LimitExceeded("fanout of a shard", fanout, MAX_FANOUT)
        prefixes = _PREFIXES.get(fanout)
        if prefixes is None:
            raise Malformed(f"shard {cid} has fanout {fanout}, not a power of two from 8 to {MAX_FANOUT}")
        bitfield = b"" if found.data is None else bytes(found.data)
        if len(bitfield) * 8 > fanout:
            raise Malformed(f"shard {cid} has {len(bitfield) * 8} bits for {fanout} slots")
        bits = int.from_bytes(bitfield, "big")
        if bits.bit_count() != len(cids):
            raise Malformed(f"shard {cid} has {len(cids)} links for {bits.bit_count()} slots in use")
        slots = tuple(slot for slot in range(fanout) if bits >> slot & 1)
        stripped = []
        for slot, name in zip(slots, names, strict=True):
            if name is None or not name.startswith(prefixes[slot]):
                raise Malformed(f"shard {cid} has the link {name!r} in slot {slot}")
            stripped.append(name[len(prefixes[slot]) :])
        return cls(fanout, bits, slots, stripped, cids, tsizes)

    def position(self, slot: int) -> int | None:
        """Where the link of ``slot`` stands among the links, or None where the slot is not in use."""
        if not self.bits >> slot & 1:
            return None
        return (self.bits & (1 << slot) - 1).bit_count()

    def entry(self, position: int) -> Entry:
        return Entry(self.names[position], Cid(self.cids[position]), self.tsizes[position] or 0)

    def check_placed(self, cid: Cid, path: int, used_bits: int) -> None:
        """Malformed unless every entry hashes to its slot below ``path``, the first ``used_bits`` bits."""
        rest = HASH_BITS - used_bits - self.slot_bits
        if rest < 0:
            raise Malformed(f"shard {cid} is deeper than the {HASH_BITS} bits of a name's hash reach")
        if used_bits and not self.slots:
            raise Malformed(f"shard {cid} inside of a directory is empty")
        path <<= self.slot_bits
        for slot, name in zip(self.slots, self.names, strict=True):
            if name and name_hash(name) >> rest != path | slot:
                raise Malformed(f"shard {cid} holds the name {name!r}, which does not belong there")


class ShardedListing:
    """The trie below one root shard; shards are read when they are needed, and some are kept."""

    __slots__ = ("_blocks", "_cache", "_cid", "_root")

    def __init__(self, blocks: Blocks, cid: Cid, block: Buffer) -> None:
        self._blocks = blocks
        self._cid = cid
        self._root = Shard.parse(cid, block)
        self._root.check_placed(cid, 0, 0)
        self._cache: NodeCache[Shard] = NodeCache(CACHED_LINKS)

    def entries(self, on_missing: OnMissing) -> Iterator[Entry]:
        """All entries in slot order, depth first.

        A shard has its one place, so a second visit is an error and each shard is read at most once: a trie made of
        one shard many times over cannot keep us busy.
        """
        seen = {self._cid.raw}
        stack = [_Walk(self._root, 0, 0)]
        while stack:
            walk = stack[-1]
            shard, position = walk.shard, walk.position
            if position == len(shard.slots):
                stack.pop()
                continue
            walk.position += 1
            if shard.names[position]:
                yield shard.entry(position)
                continue
            cid = Cid(shard.cids[position])
            path = walk.path << shard.slot_bits | shard.slots[position]
            used_bits = walk.used_bits + shard.slot_bits
            try:
                if cid.raw in seen:
                    raise Malformed(f"shard {cid} is in a directory twice")
                seen.add(cid.raw)
                stack.append(_Walk(self._load(cid, path, used_bits), path, used_bits))
            except CarError as error:
                on_missing(error)

    def lookup(self, name: bytes) -> Entry | None:
        if not name:
            return None
        hashed = name_hash(name)
        shard, used_bits = self._root, 0
        while True:
            slot = hashed >> (HASH_BITS - used_bits - shard.slot_bits) & (shard.fanout - 1)
            position = shard.position(slot)
            if position is None:
                return None
            if shard.names[position]:
                return shard.entry(position) if shard.names[position] == name else None
            used_bits += shard.slot_bits
            shard = self._load(Cid(shard.cids[position]), hashed >> (HASH_BITS - used_bits), used_bits)

    def _load(self, cid: Cid, path: int, used_bits: int) -> Shard:
        shard = self._cache.get(cid.raw)
        if shard is None:
            if cid.codec != DAG_PB:
                raise node.refusal(cid, None, "a shard of a directory")
            shard = Shard.parse(cid, node.fetch(self._blocks, cid))
            shard.check_placed(cid, path, used_bits)
            self._cache.put(cid.raw, shard, 8 + len(shard.names))
        return shard


@dataclass(slots=True)
class _Walk:
    """A shard on the way from the root: ``path`` are its ``used_bits`` bits of hash, ``position`` the next link."""

    shard: Shard
    path: int
    used_bits: int
    position: int = 0
