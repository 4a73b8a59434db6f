"""Writes sharded directories: the trie that :mod:`carlib.unixfs.hamt` reads.

A sub-shard is made only where two names share a slot, so the trie depends on the set of names alone.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from carlib import dagpb
from carlib.errors import LimitExceeded
from carlib.unixfs.hamt import HASH_BITS, MURMUR3_X64_64, name_hash, slot_prefixes
from carlib.unixfs.hashing import Built
from carlib.unixfs.links import Links
from carlib.unixfs.node import Data, DataType

PutShard = Callable[[Iterator[bytes], Data, int], Built]
"""Puts one shard: the bodies of its links, its Data, and the bytes of all blocks below it."""


def shard(
    links: Links,
    fanout: int,
    put: PutShard,
    mode: int | None = None,
    mtime_ns: int | None = None,
) -> Built:
    """The sharded directory of ``links``; LimitExceeded if two names have the same 64 bits of hash."""
    prefixes = slot_prefixes(fanout)
    slot_bits = fanout.bit_length() - 1
    hashes = array("Q", map(name_hash, links.names))

    def build(placed: Sequence[int], used_bits: int, mode: int | None, mtime_ns: int | None) -> Built:
        used_bits += slot_bits
        if used_bits > HASH_BITS:
            raise LimitExceeded("bits of hash that tell two names apart", used_bits, HASH_BITS)
        shift, encoded, bits, below = HASH_BITS - used_bits, [], 0, 0
        for key, group in groupby(placed, key=lambda index: hashes[index] >> shift):
            slot, members = key & (fanout - 1), list(group)
            if len(members) > 1:
                child = build(members, used_bits, None, None)
                name, cid, tsize = b"", child.raw, child.tsize
            else:
                name, cid, tsize = links[members[0]]
            bits |= 1 << slot
            below += tsize
            encoded.append(dagpb.encode_link(cid, prefixes[slot] + name, tsize))
        bitfield = bits.to_bytes((bits.bit_length() + 7) // 8, "big")
        kind = DataType.HAMT_SHARD
        data = Data(kind, bitfield, hash_type=MURMUR3_X64_64, fanout=fanout, mode=mode, mtime_ns=mtime_ns)
        return put(iter(encoded), data, below)

    return build(sorted(range(len(links)), key=hashes.__getitem__), 0, mode, mtime_ns)
