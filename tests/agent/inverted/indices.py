"""Index files of shards, made of multihashes alone, and an inverted index over them in the test's own loop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from agent.dagstore import index_files
from agent.dagstore.inverted.index import InvertedIndex, ShardIndex
from carlib import varint
from carlib.index import MULTIHASH_INDEX_SORTED, SortedBucket, write
from tests.agent.stores import LocalWorkers

SHA2_256 = 0x12


def multihash(digest: bytes, code: int = SHA2_256) -> bytes:
    return varint.encode(code) + varint.encode(len(digest)) + digest


def write_index(path: Path, multihashes: Iterable[bytes], codec: int = MULTIHASH_INDEX_SORTED) -> Path:
    """An index file as a CAR with blocks of these multihashes has it; one that is given twice stands there twice."""
    buckets: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    for number, raw in enumerate(multihashes):
        code, at = varint.decode(raw, 0, len(raw))
        size, at = varint.decode(raw, at, len(raw))
        buckets[code, size].append(raw[at:] + number.to_bytes(8, "little"))
    with path.open("wb") as file:
        write(
            file,
            codec,
            [
                SortedBucket(code, size, len(entries), sorted(entries))
                for (code, size), entries in sorted(buckets.items())
            ],
        )
    return path


class Shards:
    """The truth: which shards are to be in, as a catalogue would say it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.multihashes: dict[str, set[bytes]] = {}
        self.indices: dict[str, ShardIndex] = {}
        self.damaged: list[tuple[str, str]] = []
        self._made = 0

    def put(self, key: str, multihashes: Iterable[bytes], generation: int = 1) -> ShardIndex:
        self._made += 1
        listed = list(multihashes)
        path = write_index(self.directory / f"{self._made}.idx", listed)
        made = ShardIndex(key, generation, index_files.checksum(path), path, len(listed))
        self.indices[key] = made
        self.multihashes[key] = set(listed)
        return made

    def drop(self, key: str) -> None:
        del self.indices[key], self.multihashes[key]

    async def __call__(self) -> AsyncIterator[ShardIndex]:
        for shard in list(self.indices.values()):
            yield shard
            await trio.lowlevel.checkpoint()

    def note_damage(self, key: str, why: str) -> None:
        self.damaged.append((key, why))

    def expected(self, raw: bytes) -> set[str]:
        return {key for key, held in self.multihashes.items() if raw in held}


@asynccontextmanager
async def inverted_at(
    shards: Shards, directory: Path, workers: LocalWorkers | None = None
) -> AsyncIterator[InvertedIndex]:
    """The index in `directory`, at work; open it again there for what a restart would find."""
    inverted = InvertedIndex(directory, workers or LocalWorkers(), shards, shards.note_damage)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inverted.run)
        yield inverted
        nursery.cancel_scope.cancel()


async def settled(inverted: InvertedIndex) -> None:
    with trio.fail_after(30):
        await inverted.wait_complete()


def assert_answers(inverted: InvertedIndex, shards: Shards, multihashes: Iterable[bytes]) -> None:
    """Each of the multihashes, and each that any shard holds, is answered as the truth says."""
    for raw in {*multihashes, *(one for held in shards.multihashes.values() for one in held)}:
        found = inverted.lookup(raw)
        assert (len(found), set(found)) == (len(set(found)), shards.expected(raw))
